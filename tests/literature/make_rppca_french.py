"""Print the numbers of `rppca_french.json`, from the definition and with numpy alone."""

from __future__ import annotations

import json

import numpy as np
from linearmodels.datasets import french


def excess_returns():
    """Percent per month, shape (819, 30)."""
    data = french.load()
    data = data[[name for name in data.columns if data[name].dtype.kind == "f"]]
    portfolios = data.drop(columns=["MktRF", "SMB", "HML", "Mom", "RF"])
    return 100 * portfolios.sub(data["RF"], axis=0).to_numpy()


def spectrum(returns, gamma):
    """Eigenvalues and eigenvectors, largest first."""
    mean = returns.mean(axis=0)
    matrix = returns.T @ returns / len(returns) + gamma * np.outer(mean, mean)
    values, vectors = np.linalg.eigh(matrix)
    return values[::-1], vectors[:, ::-1]


def max_sharpe_ratio(factors):
    """Sharpe ratio of the tangency portfolio, population covariance."""
    mean = factors.mean(axis=0)
    covariance = np.atleast_2d(np.cov(factors.T, ddof=0))
    return float(np.sqrt(mean @ np.linalg.solve(covariance, mean)))


if __name__ == "__main__":
    panel = excess_returns()
    found = {
        "n_dates": len(panel),
        "eigenvalues": {str(g): spectrum(panel, g)[0][:5].round(4).tolist() for g in (-1, 20)},
        "max_sharpe_ratio": {
            str(k): {
                str(g): round(max_sharpe_ratio(panel @ spectrum(panel, g)[1][:, :k]), 4)
                for g in (-1, 20)
            }
            for k in (4, 5)
        },
    }
    print(json.dumps(found, indent=2))  # noqa: T201
