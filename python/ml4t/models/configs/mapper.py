"""Settings of the mappers that learn."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Annotated, ClassVar

from ml4t.models.checks import require_int
from ml4t.models.configs.base import BaseModelConfig
from ml4t.models.configs.rules import Count, OptionalPositive, Positive, one_of


@dataclass(frozen=True, slots=True)
class StateConditionalMapperConfig(BaseModelConfig):
    """Settings of `StateConditionalMapper`.

    Attributes
    ----------
    method : {"kernel", "linear"}
        Premia as a mean over past dates with a similar state, or as a line in the state.
    bandwidth : float, optional
        Of "kernel": standard deviation of the Gaussian kernel, in standard deviations of the state;
        by default T^(-1 / (Q + 4)).
    """

    model_name: ClassVar[str] = "state_conditional"

    _: KW_ONLY
    method: Annotated[str, one_of("kernel", "linear")] = "kernel"
    bandwidth: OptionalPositive = None


@dataclass(frozen=True, slots=True)
class RegimeSwitchingMapperConfig(BaseModelConfig):
    """Settings of `RegimeSwitchingMapper`.

    Attributes
    ----------
    n_regimes : int, default 2
        S, from 2 to 100.
    n_starts : int, default 4
        Points from which the likelihood is climbed; the first is a split by volatility, the others
        are random (`seed`). The highest peak wins. At most 1,000: all are climbed together.
    max_iter : int, default 500
        Steps of expectation and maximisation from each start.
    tol : float, default 1e-8
        Gain of the log likelihood per date at which a climb ends.
    prior_weight : float, default 1.0
        Dates that the factors' variances count as in the covariance of every regime, so that no
        regime shrinks to a point.
    """

    model_name: ClassVar[str] = "regime_switching"

    _: KW_ONLY
    n_regimes: Annotated[int, partial(require_int, at_least=2, at_most=100)] = 2
    n_starts: Annotated[int, partial(require_int, at_least=1, at_most=1_000)] = 4
    max_iter: Count = 500
    tol: Positive = 1e-8
    prior_weight: Positive = 1.0
