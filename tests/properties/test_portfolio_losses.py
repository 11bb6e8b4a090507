from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ml4t.models.portfolio.losses import (
    compute_net_portfolio_returns,
    robust_sharpe_loss,
    sharpe_ratio,
    softmin_sharpe,
)
from oracles import portfolio as oracle

SETTINGS = {
    "annualization_factor": 252.0,
    "sharpe_eps": 1e-8,
    "softmin_tau": 0.2,
    "softmin_lambda": 0.1,
}


def tensor(array):
    return torch.tensor(np.asarray(array), dtype=torch.float64)


def random_case(seed=0, n_windows=3, n_dates=6, n_assets=4):
    rng = np.random.default_rng(seed)
    shape = (n_windows, n_dates, n_assets)
    mask = rng.random(shape) > 0.3
    return {
        "weights": rng.uniform(-1, 1, shape),
        "forward_returns": rng.normal(0.01, 0.05, shape),
        "vol_scale": rng.uniform(0.5, 2.0, shape),
        "mask": mask,
        "costs": rng.uniform(0.0, 0.01, n_assets),
        "prev_weights": rng.uniform(-1, 1, (n_windows, n_assets)),
    }


def net(case, **settings):
    tensors = {k: torch.tensor(v) for k, v in case.items() if v is not None}
    tensors |= {k: None for k, v in case.items() if v is None}
    return compute_net_portfolio_returns(**(tensors | {"gamma_cost": 0.5} | settings))


def test_the_worked_example_of_the_costs():
    got = compute_net_portfolio_returns(
        weights=tensor([[[0.2, -0.1], [0.3, -0.2]]]),
        forward_returns=torch.zeros(1, 2, 2, dtype=torch.float64),
        vol_scale=None,
        mask=None,
        costs=tensor([1.0, 1.0]),
        gamma_cost=1.0,
        prev_weights=tensor([[0.1, -0.1]]),
        turnover_penalty=0.5,
    )
    np.testing.assert_allclose(got.numpy(), [[-0.075, -0.15]], atol=1e-15)


@given(st.integers(0, 2**32 - 1))
def test_net_returns_agree_with_the_slots_one_by_one(seed):
    case = random_case(seed)
    expected = oracle.net_returns(
        case["weights"],
        case["forward_returns"],
        case["mask"],
        0.5 * case["costs"] + 0.002,
        vol_scale=case["vol_scale"],
        previous=case["prev_weights"],
    )
    got = net(case, turnover_penalty=0.002)
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-14)


def with_gaps(case, seed=0):
    """Returns that are missing at a third of the cells, on one whole date, in one whole window."""
    rng = np.random.default_rng(seed)
    returns = np.where(rng.random(case["mask"].shape) < 0.3, np.nan, case["forward_returns"])
    returns[:, 2], returns[1] = np.nan, np.nan
    mask = case["mask"].copy()
    mask[:, 2] = True
    return case | {"forward_returns": returns, "mask": mask}


@given(st.integers(0, 2**32 - 1))
def test_a_missing_return_leaves_the_mean_of_its_date_while_its_weight_trades(seed):
    case = with_gaps(random_case(seed), seed)
    expected = oracle.net_returns(
        case["weights"],
        case["forward_returns"],
        case["mask"],
        0.5 * case["costs"] + 0.002,
        vol_scale=case["vol_scale"],
        previous=case["prev_weights"],
    )
    got = net(case, turnover_penalty=0.002)
    assert np.isnan(expected[:, 2]).all()
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-14)


@pytest.mark.parametrize("burn_in", [0, 1, 3])
def test_a_date_without_a_known_return_is_no_observation_of_the_objective(burn_in):
    case = with_gaps(random_case())
    fixed = {k: torch.tensor(v) for k, v in case.items()}
    result = robust_sharpe_loss(gamma_cost=0.5, burn_in=burn_in, **fixed, **SETTINGS)
    paths = result.net_returns.numpy()
    expected = oracle.objective(paths, 252.0, 1e-8, tau=0.2, share=0.1, burn_in=burn_in)
    assert float(result.objective) == pytest.approx(expected, rel=1e-12)
    kept = paths[:, burn_in:]
    pooled = oracle.sharpe(kept[~np.isnan(kept)], 252.0, 1e-8)
    assert float(result.sharpe_pool) == pytest.approx(pooled, rel=1e-12)


def test_without_costs_a_missing_return_is_a_masked_cell():
    case = with_gaps(random_case()) | {"costs": None, "prev_weights": None}
    masked = case | {"mask": case["mask"] & ~np.isnan(case["forward_returns"])}
    got, want = net(case).numpy(), net(masked).numpy()
    observed = ~np.isnan(got)
    np.testing.assert_array_equal(got[observed], want[observed])
    assert not want[~observed].any()


def test_gradients_pass_by_missing_returns():
    case = with_gaps(random_case())
    fixed = {k: torch.tensor(v) for k, v in case.items() if k != "weights"}

    def loss(weights):
        return robust_sharpe_loss(
            weights=weights, gamma_cost=0.5, turnover_penalty=0.01, **fixed, **SETTINGS
        ).loss

    weights = torch.tensor(case["weights"], requires_grad=True)
    assert torch.autograd.gradcheck(loss, (weights,), eps=1e-7, atol=1e-3, rtol=1e-4)


def test_a_weight_that_is_not_finite_is_no_missing_return():
    case = with_gaps(random_case())
    case["weights"][0, 0] = np.nan
    case["mask"][0, 0] = True
    case["forward_returns"][0, 0] = 0.01
    fixed = {k: torch.tensor(v) for k, v in case.items()}
    assert torch.isnan(robust_sharpe_loss(gamma_cost=0.5, **fixed, **SETTINGS).loss)


def test_an_objective_without_a_finite_return_raises():
    case = random_case()
    case["forward_returns"][:, 2:] = np.nan
    case["mask"][:, 2:] = True
    fixed = {k: torch.tensor(v) for k, v in case.items()}
    with pytest.raises(ValueError, match="no return is known after the burn-in of 2 periods"):
        robust_sharpe_loss(gamma_cost=0.5, burn_in=2, **fixed, **SETTINGS)


def test_a_forced_exit_pays_and_a_return_starts_from_flat():
    got = compute_net_portfolio_returns(
        weights=tensor([[[0.5], [0.5], [0.5]]]),
        forward_returns=torch.zeros(1, 3, 1, dtype=torch.float64),
        vol_scale=None,
        mask=torch.tensor([[[True], [False], [True]]]),
        costs=tensor([0.1]),
        gamma_cost=1.0,
    )
    np.testing.assert_allclose(got.numpy(), [[-0.05, -0.05, -0.05]], atol=1e-15)


@pytest.mark.parametrize("junk", [np.nan, np.inf, -np.inf])
def test_nothing_leaks_out_of_masked_cells(junk):
    case = random_case()
    clean = net(case)
    out = ~case["mask"]
    for name in ("weights", "forward_returns", "vol_scale"):
        case[name] = np.where(out, junk, case[name])
    weights = torch.tensor(case["weights"], requires_grad=True)
    dirty = net(case | {"weights": None}, weights=weights)
    torch.testing.assert_close(dirty, clean, rtol=0, atol=0)
    dirty.sum().backward()
    assert not weights.grad.numpy()[out].any()


@given(hnp.arrays(np.float64, (5, 4), elements=st.floats(-0.1, 0.1)))
def test_the_gradient_of_the_sharpe_ratio_is_the_closed_form(x):
    x = x + np.arange(20).reshape(5, 4) * 1e-3
    returns = torch.tensor(x, requires_grad=True)
    value = sharpe_ratio(returns, annualization_factor=12.0, eps=1e-6)
    assert float(value.detach()) == pytest.approx(oracle.sharpe(x, 12.0, 1e-6), rel=1e-12)
    value.backward()
    expected = oracle.sharpe_gradient(x, 12.0, 1e-6)
    np.testing.assert_allclose(returns.grad.numpy(), expected, rtol=1e-9, atol=1e-9)


def test_the_gradient_of_the_loss_agrees_with_finite_differences():
    case = random_case()
    fixed = {k: torch.tensor(v) for k, v in case.items() if k != "weights"}

    def loss(weights):
        return robust_sharpe_loss(
            weights=weights, gamma_cost=0.5, burn_in=1, turnover_penalty=0.01, **fixed, **SETTINGS
        ).loss

    weights = torch.tensor(case["weights"], requires_grad=True)
    assert torch.autograd.gradcheck(loss, (weights,), eps=1e-7, atol=1e-3, rtol=1e-4)


@given(
    hnp.arrays(np.float64, st.integers(1, 8), elements=st.floats(-1e6, 1e6)),
    st.floats(1e-3, 1e3),
)
def test_softmin_lies_between_minimum_and_mean(sharpes, tau):
    got = float(softmin_sharpe(torch.tensor(sharpes), tau=tau))
    slack = 1e-9 * (1.0 + np.abs(sharpes).max())
    assert sharpes.min() - slack <= got <= sharpes.mean() + slack


def test_softmin_goes_to_minimum_and_mean():
    sharpes = tensor([0.3, -1.2, 2.0])
    assert float(softmin_sharpe(sharpes, tau=1e-4)) == pytest.approx(-1.2, abs=1e-3)
    assert float(softmin_sharpe(sharpes, tau=1e6)) == pytest.approx(1.1 / 3, abs=1e-5)


def test_scale_matters_only_with_costs():
    case = random_case()
    fixed = {k: torch.tensor(v) for k, v in case.items() if k not in ("weights", "prev_weights")}
    settings = SETTINGS | {"sharpe_eps": 1e-300}

    def pooled(scale, gamma):
        result = robust_sharpe_loss(
            weights=scale * torch.tensor(case["weights"]), gamma_cost=gamma, **fixed, **settings
        )
        torch.testing.assert_close(result.loss, -result.objective)
        return float(result.objective)

    assert pooled(3.0, 0.0) == pytest.approx(pooled(1.0, 0.0), rel=1e-12)
    assert pooled(1.0, 1.0) < pooled(1.0, 0.0)


def test_a_burn_in_of_all_periods_raises():
    case = {k: torch.tensor(v) for k, v in random_case().items()}
    with pytest.raises(ValueError, match="burn_in must be less than the 6 periods"):
        robust_sharpe_loss(gamma_cost=0.5, burn_in=6, **case, **SETTINGS)
