"""From exposures and premia to expected returns."""

from ml4t.models.mappers.beta_lambda import BetaLambdaMapper

__all__ = ["BetaLambdaMapper"]
