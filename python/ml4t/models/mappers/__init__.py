"""From exposures and premia to expected returns."""

from ml4t.models.mappers.beta_lambda import BetaLambdaMapper
from ml4t.models.mappers.regime_switching import RegimeSwitchingMapper
from ml4t.models.mappers.state_conditional import StateConditionalMapper

__all__ = ["BetaLambdaMapper", "RegimeSwitchingMapper", "StateConditionalMapper"]
