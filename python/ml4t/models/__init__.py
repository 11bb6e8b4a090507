r"""Finance-native models for empirical asset pricing and portfolio learning.

Axes: T dates, N assets, L characteristics, P instruments (the constant and the characteristics),
K latent factors, M observed factors. Returns are simple, per period, as fractions. NaN marks
missing.

Models
------
Factors and exposures, :math:`r_t = B_t f_t + e_t`:

- `PCAModel`: constant exposures from the covariance of returns [1]_.
- `RPPCAModel`: the mean return gets the weight :math:`1 + \gamma`, so that priced factors come
  first [2]_; missing returns by pairwise moments.
- `IPCAModel`: :math:`B_t = Z_t \Gamma`, exposures linear in lagged characteristics [3]_; bootstrap
  tests of alpha, characteristics and observed factors; an elastic net on the rows of
  :math:`\Gamma`.
- `CAEModel`: :math:`B_t` is a neural network of the characteristics [4]_.
- `StochasticDiscountFactorModel`: :math:`E[(1 - w_t'R_{t+1}) R_{t+1} g_t] = 0` for weights and test
  assets of two adversaries [5]_.

Premia and expected returns, :math:`E_t[r_{t+1}] = B_t \lambda_t`: the forecasters of
`ml4t.models.forecasters` predict :math:`\lambda_t`, the mappers of `ml4t.models.mappers` combine it
with the exposures, and `LatentFactorForecastPipeline` joins a model, a forecaster and a mapper.

Signals and weights: `SAEModel` predicts returns of assets directly; `LinearFeaturePortfolioModel`,
`LSTMPortfolioModel` and `DeepPortfolioModel` learn weights by the Sharpe ratio after costs [6]_.

`WalkForward` re-estimates any of these on rolling or expanding windows and predicts out of sample.

Map
---
=============================== ====================================================================
`types`                         batches, states and results: arrays with dates, assets and names
`configs`                       settings of every model; importable without torch
`integration`                   long frames in; predictions, signals, weights out
`moments`                       `CharacteristicMoments`: second moments by date, also streamed
`panel`                         masks, imputation, ranks, matching of assets
`kernels`                       faces of the compiled kernels
`latent_factors`                PCA, RP-PCA, IPCA, conditional autoencoder
`stochastic_discount_factor`    adversarial discount factor, beta head
`asset_prediction`              supervised autoencoder
`forecasters`, `mappers`        factor premia, expected returns
`portfolio`                     policies, losses, constraints
`pipelines`, `walk_forward`     joined models, out-of-sample estimation
`lifecycle`, `artifacts`        fit, record, save and load
`training`                      the training loop of every network
`plots`                         figures
=============================== ====================================================================

The models need returns to fit; none reads returns to predict. The same input gives the same bits on
any number of threads.

References
----------
.. [1] Connor and Korajczyk (1986), Performance measurement with the arbitrage pricing theory,
   JFE 15(3).
.. [2] Lettau and Pelger (2020), Factors that fit the time series and cross-section of stock
   returns, RFS 33(5).
.. [3] Kelly, Pruitt and Su (2019), Characteristics are covariances, JFE 134(3).
.. [4] Gu, Kelly and Xiu (2021), Autoencoder asset pricing models, JoE 222(1).
.. [5] Chen, Pelger and Zhu (2024), Deep learning in asset pricing, Management Science 70(2).
.. [6] Lim, Zohren and Roberts (2019), Enhancing time series momentum strategies using deep neural
   networks, JFDS 1(4).

Examples
--------
>>> import numpy as np
>>> from ml4t.models import PCAConfig, PCAModel, PersistentPanelBatch
>>> factor, betas = np.array([0.01, -0.02, 0.03]), np.array([1.0, 2.0])
>>> model = PCAModel(PCAConfig(n_factors=1))
>>> summary = model.fit(PersistentPanelBatch(np.outer(factor, betas)))
>>> state = model.extract(PersistentPanelBatch(np.outer(factor, betas)))
>>> np.allclose(state.factor_returns @ state.asset_betas[0].T, np.outer(factor, betas))
True
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ml4t.models._public_api import MODULE_OF, MODULES, STABLE_ROOT_EXPORTS

if TYPE_CHECKING:
    # The names of `_public_api` for type checkers; a test compares the two.
    from ml4t.models.api import *  # noqa: F403
    from ml4t.models.asset_prediction import *  # noqa: F403
    from ml4t.models.configs import *  # noqa: F403
    from ml4t.models.forecasters import *  # noqa: F403
    from ml4t.models.integration import *  # noqa: F403
    from ml4t.models.latent_factors import *  # noqa: F403
    from ml4t.models.mappers import *  # noqa: F403
    from ml4t.models.moments import *  # noqa: F403
    from ml4t.models.pipelines import *  # noqa: F403
    from ml4t.models.plots import *  # noqa: F403
    from ml4t.models.portfolio import *  # noqa: F403
    from ml4t.models.stochastic_discount_factor import *  # noqa: F403
    from ml4t.models.threads import *  # noqa: F403
    from ml4t.models.types import *  # noqa: F403
    from ml4t.models.walk_forward import *  # noqa: F403

    __version__: str

__all__ = list(STABLE_ROOT_EXPORTS)


def __getattr__(name: str) -> Any:
    """Import a public name, or a module of public names, at its first use."""
    if name in MODULE_OF:
        value = getattr(import_module(f"{__name__}.{MODULE_OF[name]}"), name)
    elif name in MODULES:
        value = import_module(f"{__name__}.{name}")
    elif name == "__version__":
        value = import_module("importlib.metadata").version("ml4t-models")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *MODULES, *STABLE_ROOT_EXPORTS})
