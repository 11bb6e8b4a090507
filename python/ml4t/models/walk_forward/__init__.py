"""Walk-forward re-estimation and out-of-sample prediction.

| module             | content                                              |
|--------------------|------------------------------------------------------|
| `schedule`         | folds: dates that train, dates that are predicted    |
| `hooks`            | how an estimator takes part, foreign ones included   |
| `spans`            | batches and results along time, returns hidden       |
| `universe`         | assets that take part in a fold                      |
| `fold`             | one fold: estimate, predict each date from its past  |
| `factor_alignment` | order and sign of factors from fold to fold          |
| `postprocessing`   | one book through all dates                           |
| `fold_store`       | finished folds on disk, for a run that is resumed    |
| `walk`             | all folds, in sequence or on workers                 |
"""

from ml4t.models.walk_forward.walk import WalkForward, WalkForwardFold, WalkForwardResult

__all__ = ["WalkForward", "WalkForwardFold", "WalkForwardResult"]
