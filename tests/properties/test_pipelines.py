from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
from sklearn.base import clone

from ml4t.models import (
    AR1FactorForecaster,
    BetaLambdaMapper,
    CrossSectionBatch,
    ExpandingMeanFactorForecaster,
    FactorForecastResult,
    FitSummary,
    IPCAConfig,
    IPCAModel,
    LatentFactorForecastPipeline,
    LatentFactorState,
    PCAConfig,
    PCAModel,
    PersistentPanelBatch,
    PipelineFitResult,
)

T, N, L = 30, 8, 3


def cross_sections(seed=0):
    rng = np.random.default_rng(seed)
    z = rng.uniform(-0.5, 0.5, (T, N, L))
    premium = 0.02 + 0.04 * rng.standard_normal(T)
    returns = (1 + z[:, :, 0]) * premium[:, None] + 0.01 * rng.standard_normal((T, N))
    return CrossSectionBatch(z, returns=returns, timestamps=tuple(range(T)))


def panel(seed=0):
    batch = cross_sections(seed)
    return PersistentPanelBatch(batch.returns, timestamps=batch.timestamps)


def ipca_pipeline(forecaster=None):
    return LatentFactorForecastPipeline(
        IPCAModel(IPCAConfig(n_factors=1)),
        ExpandingMeanFactorForecaster() if forecaster is None else forecaster,
        BetaLambdaMapper(),
    )


class Checkpointed:
    """A model whose factors at checkpoint c are all equal to c; it validates, too."""

    def __init__(self):
        self.available_checkpoints = ()
        self.validated = None
        self.last_fit_record = None

    @property
    def is_fitted(self):
        return bool(self.available_checkpoints)

    def fit(self, batch, *, validation_batch=None):
        self.available_checkpoints = (1, 5, 9)
        self.validated = validation_batch
        return FitSummary(converged=True)

    def extract(self, batch, *, checkpoint=None):
        level = 9 if checkpoint is None else checkpoint
        if level not in self.available_checkpoints:
            raise ValueError(f"checkpoint={checkpoint} is not one of {self.available_checkpoints}")
        betas = np.ones((batch.n_periods, batch.n_assets, 1))
        factors = np.full((batch.n_periods, 1), float(level))
        return LatentFactorState(betas, factor_returns=factors, checkpoint_epoch=level)


def test_the_parts_in_order():
    batch, pipeline = cross_sections(), ipca_pipeline()
    report = pipeline.fit(batch)
    assert isinstance(report, PipelineFitResult)
    assert report.structural_fit.converged
    assert report.structural_fit.run_record is pipeline.model.last_fit_record
    assert report.factor_forecast_fit.run_record is pipeline.forecaster.last_fit_record
    got = pipeline.predict(replace(batch, returns=None))
    premium = pipeline.model.train_factor_returns.mean()
    np.testing.assert_allclose(got.factor_forecast.factor_premia, premium, rtol=1e-12)
    expected = got.state.asset_betas[:, :, 0] * premium
    np.testing.assert_allclose(got.asset_forecast.expected_returns, expected, rtol=1e-12)
    assert got.asset_forecast.timestamps == batch.timestamps


def test_pca_with_the_mean_sees_the_premium():
    # Loadings of one strong factor times its mean come back as the mean returns of the assets.
    rng = np.random.default_rng(0)
    beta = rng.uniform(0.5, 1.5, N)
    factor = 0.02 + 0.05 * rng.standard_normal((400, 1))
    batch = PersistentPanelBatch(factor * beta)
    pipeline = LatentFactorForecastPipeline(
        PCAModel(PCAConfig(n_factors=1)), ExpandingMeanFactorForecaster(), BetaLambdaMapper()
    )
    pipeline.fit(batch)
    got = pipeline.predict(PersistentPanelBatch(timestamps=("next",), asset_ids=list(range(N))))
    np.testing.assert_allclose(
        got.asset_forecast.expected_returns[0], batch.returns.mean(axis=0), rtol=1e-10
    )


@pytest.mark.parametrize("forecaster", [ExpandingMeanFactorForecaster, AR1FactorForecaster])
def test_no_forecast_reads_the_return_of_its_own_or_a_later_date(forecaster):
    batch, pipeline = cross_sections(), ipca_pipeline(forecaster())
    pipeline.fit(batch)
    before = pipeline.predict(batch).asset_forecast.expected_returns
    for date in (0, 11, T - 1):
        returns = batch.returns.copy()
        returns[date:] = -9.0 * returns[date:]
        after = pipeline.predict(replace(batch, returns=returns)).asset_forecast.expected_returns
        np.testing.assert_array_equal(after[: date + 1], before[: date + 1])


def test_every_checkpoint_has_its_own_forecaster():
    pipeline = LatentFactorForecastPipeline(
        Checkpointed(), ExpandingMeanFactorForecaster(), BetaLambdaMapper()
    )
    pipeline.fit(panel())
    for checkpoint, premium in ((None, 9.0), (1, 1.0), (5, 5.0), (9, 9.0)):
        got = pipeline.predict(panel(), checkpoint=checkpoint)
        np.testing.assert_array_equal(got.factor_forecast.factor_premia, premium)
    with pytest.raises(ValueError, match="checkpoint=2"):
        pipeline.predict(panel(), checkpoint=2)


def test_validation_goes_to_models_that_validate():
    model, validation = Checkpointed(), panel(1)
    pipeline = LatentFactorForecastPipeline(
        model, ExpandingMeanFactorForecaster(), BetaLambdaMapper()
    )
    pipeline.fit(panel(), validation_batch=validation)
    assert model.validated is validation
    with pytest.raises(ValueError, match=r"IPCAModel.fit\(\) does not accept validation_batch"):
        ipca_pipeline().fit(cross_sections(), validation_batch=cross_sections(1))


class Stumbling(ExpandingMeanFactorForecaster):
    """A forecaster that fails on demand."""

    fail = False

    def _estimate(self, factors):
        if self.fail:
            raise FloatingPointError("stumbled")
        return super()._estimate(factors)


@pytest.mark.parametrize("intercept", [False, True])
def test_premia_of_observed_factors_are_forecast_too(intercept, tmp_path):
    batch, g = cross_sections(), 0.01 + 0.03 * np.random.default_rng(1).standard_normal((T, 1))
    pipeline = ipca_pipeline()
    pipeline.set_params(model__config__intercept=intercept)
    pipeline.fit(batch, observed_factors=g)
    coming = replace(batch, returns=None)
    result = pipeline.predict(coming)
    known = g.mean(), *([1.0] if intercept else [])
    np.testing.assert_allclose(result.factor_forecast.factor_premia[:, 1:], [known] * T, rtol=1e-12)
    alone = IPCAModel(pipeline.model.config)
    alone.fit(batch, observed_factors=g)
    np.testing.assert_array_equal(result.state.asset_betas, alone.extract(coming).asset_betas)
    # Realised factors need the observed ones; without them there are none, and still a forecast.
    assert pipeline.predict(batch).state.factor_returns is None
    realised = pipeline.predict(batch, observed_factors=g).state
    assert realised == alone.extract(batch, observed_factors=g)
    loaded = LatentFactorForecastPipeline.load(pipeline.save(tmp_path / "pipeline"))
    assert loaded.predict(coming) == result


def test_observed_factors_go_only_to_models_that_take_them():
    g = np.zeros((T, 1))
    pipeline = LatentFactorForecastPipeline(
        PCAModel(PCAConfig(n_factors=1)), ExpandingMeanFactorForecaster(), BetaLambdaMapper()
    )
    with pytest.raises(ValueError, match="does not accept observed_factors"):
        pipeline.fit(panel(), observed_factors=g)
    pipeline.fit(panel())
    with pytest.raises(ValueError, match="does not accept observed_factors"):
        pipeline.predict(panel(), observed_factors=g)


def test_a_failed_forecaster_takes_the_model_back():
    forecaster = Stumbling()
    pipeline = ipca_pipeline(forecaster)
    pipeline.fit(cross_sections(0))
    before = pipeline.predict(cross_sections(0)).asset_forecast.expected_returns
    forecaster.fail = True
    with pytest.raises(FloatingPointError, match="stumbled"):
        pipeline.fit(cross_sections(1))
    after = pipeline.predict(cross_sections(0)).asset_forecast.expected_returns
    np.testing.assert_array_equal(after, before)
    assert forecaster.last_fit_record.stopping_reason == "failed"


def test_unfitted_is_said_so(tmp_path):
    with pytest.raises(RuntimeError, match="fitted before extract"):
        ipca_pipeline().predict(cross_sections())
    with pytest.raises(RuntimeError, match="fitted before save"):
        ipca_pipeline().save(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("forecaster", [ExpandingMeanFactorForecaster, AR1FactorForecaster])
def test_round_trip(forecaster, tmp_path):
    batch, pipeline = cross_sections(), ipca_pipeline(forecaster())
    pipeline.fit(batch)
    loaded = LatentFactorForecastPipeline.load(pipeline.save(tmp_path / "p.ml4t"))
    got, expected = loaded.predict(batch), pipeline.predict(batch)
    np.testing.assert_array_equal(
        got.asset_forecast.expected_returns, expected.asset_forecast.expected_returns
    )
    assert loaded.model.last_fit_record == pipeline.model.last_fit_record
    assert loaded.mapper.config == pipeline.mapper.config


def test_files_that_are_not_pipelines_are_refused(tmp_path):
    pipeline = ipca_pipeline()
    pipeline.fit(cross_sections())
    model = pipeline.model.save(tmp_path / "model.ml4t")
    with pytest.raises(ValueError, match="model_type mismatch"):
        LatentFactorForecastPipeline.load(model)
    saved = pipeline.save(tmp_path / "p.ml4t")
    with pytest.raises(ValueError, match="model_type mismatch"):
        IPCAModel.load(saved)
    content = bytearray(saved.read_bytes())
    content[-1] ^= 1
    saved.write_bytes(content)
    with pytest.raises(ValueError, match="hash"):
        LatentFactorForecastPipeline.load(saved)
    with pytest.raises(FileNotFoundError):
        LatentFactorForecastPipeline.load(tmp_path / "none")


class ForeignMapper:
    def predict(self, state, factor_forecast):
        return BetaLambdaMapper().predict(state, factor_forecast)


def test_parts_of_others_work_but_are_not_saved(tmp_path):
    pipeline = LatentFactorForecastPipeline(
        IPCAModel(IPCAConfig(n_factors=1)), ExpandingMeanFactorForecaster(), ForeignMapper()
    )
    pipeline.fit(cross_sections())
    assert pipeline.predict(cross_sections()).asset_forecast.expected_returns.shape == (T, N)
    with pytest.raises(TypeError, match="mapper must be of this package"):
        pipeline.save(tmp_path / "p.ml4t")


def test_parameters_reach_into_the_parts():
    pipeline = ipca_pipeline()
    assert pipeline.get_params()["model__config__n_factors"] == 1
    again = clone(pipeline)
    assert again.model is not pipeline.model
    again.set_params(model__config__n_factors=2)
    assert again.model.config.n_factors == 2
    assert pipeline.model.config.n_factors == 1
    assert "IPCAModel" in repr(pipeline)
    assert copy.deepcopy(pipeline).model.config == pipeline.model.config


def test_the_mapper_reads_premia_of_any_forecaster():
    class Flat:
        is_fitted, last_fit_record = True, None

        def fit(self, state):
            return FitSummary(converged=True)

        def predict(self, state):
            return FactorForecastResult(np.full((state.n_periods, state.n_factors), 0.5))

    pipeline = ipca_pipeline(Flat())
    pipeline.fit(cross_sections())
    got = pipeline.predict(cross_sections())
    np.testing.assert_allclose(
        got.asset_forecast.expected_returns, got.state.asset_betas[:, :, 0] * 0.5
    )


def test_a_pipeline_learns_from_what_the_fit_of_its_model_extracts():
    class Once(PCAModel):
        def extract(self, batch, **options):
            raise AssertionError("no second pass")

        def fit_extract(self, batch, **options):
            summary = self.fit(batch)
            return summary, LatentFactorState(
                np.empty((batch.n_periods, 0, 1)), factor_returns=self.train_factor_returns
            )

    pipeline = LatentFactorForecastPipeline(
        Once(PCAConfig(n_factors=1)), ExpandingMeanFactorForecaster(), BetaLambdaMapper()
    )
    pipeline.fit(panel())
    premia = pipeline.forecaster.predict(LatentFactorState(np.ones((1, 1, 1)))).factor_premia
    mean = pipeline.model.train_factor_returns.mean(axis=0, keepdims=True)
    np.testing.assert_allclose(premia, mean, rtol=1e-12)
