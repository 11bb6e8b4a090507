"""How an IPCA fit is read: a summary, and what each characteristic carries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ml4t.models.checks import require_bool
from ml4t.models.latent_factors.ipca.evaluation import IPCAEvaluation
from ml4t.models.latent_factors.ipca.inputs import factors_of, sample_of
from ml4t.models.latent_factors.ipca.report import (
    CharacteristicImportance,
    characteristic_importance,
    labelled,
    summarise,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ml4t.models.latent_factors.ipca.fit import Sample
    from ml4t.models.latent_factors.tables import ModelSummary
    from ml4t.models.moments.characteristic_moments import CharacteristicMoments
    from ml4t.models.types import CrossSectionBatch


class IPCAReading(IPCAEvaluation):
    """Reports of a fit, as a part of `IPCAModel`.

    Parameters
    ----------
    config : IPCAConfig
    """

    def summary(
        self,
        batch: CrossSectionBatch | CharacteristicMoments | None = None,
        *,
        observed_factors: NDArray[Any] | None = None,
        feature_names: Sequence[str] = (),
        standard_errors: bool = True,
    ) -> ModelSummary:
        """Say what the fit found, in tables.

        Parameters
        ----------
        batch : CrossSectionBatch or CharacteristicMoments, optional
            With returns, to measure the fit on: the panel of the fit, which is the default in the
            process that fitted the model, or another one.
        observed_factors : array_like, shape (T, M), optional
            The observed factors of these dates, where the fit had some.
        feature_names : sequence of str, length L, optional
            Instead of those that are known.
        standard_errors : bool, default True
            Give them for Gamma, if the panel of the fit is there; see `standard_errors`.

        Returns
        -------
        ModelSummary
            Text when printed, HTML in a notebook.

        Raises
        ------
        RuntimeError
            Before a fit.
        ValueError
            When the batch does not fit what was learned.
        """
        result = self._require_fitted("summary")
        wanted = require_bool("standard_errors", standard_errors)
        errors, note = self._errors(batch, observed_factors) if wanted else (None, ())
        sample = self._measured_on(batch, observed_factors)
        measures = None
        if sample is not None:
            measures = self._measures(sample.moments, self._factors(sample), batch)
        return summarise(
            result.fit,
            result.record,
            intercept=self.config.intercept,
            names=labelled(self.feature_names, feature_names, constant=self.config.constant),
            errors=errors,
            measures=measures,
            notes=note,
        )

    def characteristic_importance(
        self,
        batch: CrossSectionBatch | CharacteristicMoments | None = None,
        *,
        observed_factors: NDArray[Any] | None = None,
        feature_names: Sequence[str] = (),
    ) -> CharacteristicImportance:
        """Measure what is lost without each instrument, Gamma and factors being what they are.

        Parameters
        ----------
        batch, observed_factors, feature_names
            See `summary`.

        Returns
        -------
        CharacteristicImportance

        Raises
        ------
        RuntimeError
            Before a fit.
        ValueError
            When the batch does not fit what was learned, or is needed and not given.
        """
        self._fitted("characteristic_importance")
        sample = self._measured_on(batch, observed_factors)
        if sample is None:
            raise ValueError(
                "batch must be given: a model that was loaded or copied has not kept the moments "
                "of its panel; got None"
            )
        names = labelled(self.feature_names, feature_names, constant=self.config.constant)
        factors = self._factors(sample)
        return characteristic_importance(sample.moments, self._loadings(), factors, names)

    def _measured_on(
        self,
        batch: CrossSectionBatch | CharacteristicMoments | None,
        observed_factors: NDArray[Any] | None,
    ) -> Sample | None:
        """Moments and observed factors of a batch, or those of the fit if they were kept."""
        if batch is None:
            return self._sample
        return sample_of(self.config, self._fitted("summary"), batch, observed_factors)

    def _factors(self, sample: Sample) -> NDArray[np.float64]:
        """Factors of the dates; NaN where there are too few assets for the date to count."""
        fit = self._fitted("summary")
        factors = factors_of(fit, self.config, sample.moments, sample.observed)
        counts = sample.moments.n_assets >= self.config.min_assets
        return np.where(counts[:, None], factors, np.nan)

    def _errors(
        self,
        batch: CrossSectionBatch | CharacteristicMoments | None,
        observed_factors: NDArray[Any] | None,
    ) -> tuple[NDArray[Any] | None, tuple[str, ...]]:
        """Give standard errors (P, K + M), or a note that says why there are none."""
        try:
            if self._sample is None:
                found = self.standard_errors(batch=batch, observed_factors=observed_factors)
            else:
                found = self.standard_errors()
        except (RuntimeError, ValueError) as error:
            return None, (f"No standard errors: {error}.",)
        parts = [found.gamma, found.gamma_observed]
        if found.alpha is not None:
            parts.append(found.alpha[:, None])
        return np.hstack(parts), ()
