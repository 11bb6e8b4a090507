"""Estimation again and again as time goes by, and what it would have said each time.

| module    | question                                            |
|-----------|-----------------------------------------------------|
| `folds`   | which dates train, which are predicted              |
| `spans`   | what is there of a batch or a result between dates  |
| `refit`   | one fold: estimate, predict each date from its past |
| `align`   | which factor of this fold is which of the last      |
| `journal` | what is kept on disk to go on after a crash         |
| `walk`    | all folds, in a row or by workers                   |
"""

from ml4t.models.walk_forward.walk import WalkForward, WalkForwardFold, WalkForwardResult

__all__ = ["WalkForward", "WalkForwardFold", "WalkForwardResult"]
