"""Base class of the models that train networks; imports no torch."""

from __future__ import annotations

import os  # noqa: TC003 - public signatures stay readable at run time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from ml4t.models.checks import require_shape, require_type
from ml4t.models.lifecycle.estimator import Estimated, Fittable
from ml4t.models.training.optional_torch import require_torch
from ml4t.models.training.warm_start import Attempt, parts
from ml4t.models.types import CrossSectionBatch, FitSummary

if TYPE_CHECKING:
    from ml4t.models.training.callbacks import Callback
    from ml4t.models.training.warm_start import Resume
    from ml4t.models.types.arrays import FloatArray

ConfigT = TypeVar("ConfigT")
FitT = TypeVar("FitT")
Label = TypeVar("Label", bound=Hashable)


class Neural(Fittable[ConfigT, FitT]):
    """A model that needs PyTorch for everything but its construction.

    All `fit` methods share these arguments:

    validation_batch : batch, optional
        Chooses the best epoch, and stops training where the model has a patience.
    callbacks : sequence of Callback
        Called at the start of a phase, after every epoch and at the end.
    progress : bool, default False
        Show a bar (needs tqdm).
    resume : RunState or mapping of str to ndarray, optional
        Continue an interrupted fit from a state that a callback captured; or start from the
        parameters of another fit instead of random ones, as `continued_from` gives them.

    They raise `TypeError` for a batch of another type, `ValueError` when a batch lacks what
    training needs, and `FloatingPointError` when training diverges.
    """

    batch_type: ClassVar[type] = CrossSectionBatch
    # Whether the prediction of a date depends on no later date: up to rounding, predictions of all
    # dates of a batch are those of one date after the other.
    is_causal: ClassVar[bool] = False

    @property
    def available_checkpoints(self) -> tuple[Any, ...]:
        """Epochs with stored parameters."""
        if not self.is_fitted:
            return ()
        fit: Any = self._fitted("checkpoints")
        return tuple(sorted(fit.checkpoints))

    # Its threads do not exist in a forked process, which waits for them forever.
    needs_spawn: ClassVar[str] = "torch"

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, device: str | None = None) -> Self:
        """Read a file that `save` wrote; see `Fittable.load`."""
        require_torch(cls.__name__)
        return super().load(path, device=device)

    def continued_from(self, previous: Self) -> dict[str, Any]:
        """Keyword arguments for a `fit` that begins with the last parameters of another.

        Parameters
        ----------
        previous : model of this class
            Fitted, of the same sizes; `fit` refuses others. Optimisers start anew, and so does the
            adversary of a discount factor.
        """
        fit = require_type("previous", previous, type(self))._fitted("continued_from")
        return {"resume": self._last_parameters(fit)}

    def _last_parameters(self, fit: Any) -> dict[str, FloatArray]:
        return dict(fit.checkpoints[max(fit.checkpoints)])

    @classmethod
    def _blank(cls, config: ConfigT, fit: FitT) -> tuple[Any, tuple[int, ...]]:
        """Build the network of a fit on the meta device, where it takes no memory.

        Returns
        -------
        nn.Module
        tuple of int
            Axes that the arrays of a checkpoint have before those of the network's parameters.
        """
        raise NotImplementedError

    @classmethod
    def _last_epoch(cls, config: ConfigT, label: Any) -> int:
        """Last epoch of the training that the label of a checkpoint belongs to."""
        del label
        epochs: int = config.n_epochs  # type: ignore[attr-defined]
        return epochs

    @classmethod
    def _require_settings(cls, config: ConfigT, fit: FitT) -> None:
        require_torch(cls.__name__)
        try:
            network, members = cls._blank(config, fit)
        except (RuntimeError, TypeError, OverflowError) as error:
            raise ValueError(f"the fit must have the sizes of a network: {error}") from error
        layout = {
            name: (members + tuple(value.shape), str(value.dtype).removeprefix("torch."))
            for name, value in network.state_dict().items()
        }
        checkpoints: Mapping[Any, Mapping[str, FloatArray]] = getattr(fit, "checkpoints", {})
        for label, state in checkpoints.items():
            _require_layout(f"checkpoint {label}", layout, state)
            epoch = label[1] if isinstance(label, tuple) else label
            if epoch > cls._last_epoch(config, label):
                raise ValueError(
                    f"checkpoint {label} must be of the {cls._last_epoch(config, label)} epochs "
                    "of the settings"
                )

    def _fit(
        self,
        train: Callable[..., Estimated[FitT]],
        batch: Any,
        validation_batch: Any,
        *,
        callbacks: Sequence[Callback],
        progress: bool,
        resume: Resume | None,
        **options: Any,
    ) -> FitSummary:
        """Run `train` on batches of the right type.

        Parameters
        ----------
        train : callable
            Called with both batches, `listeners`, `resume` and the options.
        batch, validation_batch, callbacks, progress, resume
            Arguments of `fit`.
        **options
            Further arguments of `fit`, which identify an interrupted one.
        """
        inputs = {"batch": batch, "validation_batch": validation_batch, **options}
        attempt = Attempt(type(self).__name__, self.config, inputs)

        def estimate() -> Estimated[FitT]:
            require_type("batch", batch, self.batch_type)
            if validation_batch is not None:
                require_type("validation_batch", validation_batch, self.batch_type)
            return train(
                batch,
                validation_batch,
                listeners=attempt.listeners(callbacks, progress=progress),
                resume=attempt.own(resume),
                **options,
            )

        return self._run(estimate, *inputs.values(), *parts(resume))

    def _run(self, estimate: Callable[[], Estimated[FitT]], *inputs: object) -> FitSummary:
        """Train with our settings of torch, whatever the caller's around the call."""

        def trained() -> Estimated[FitT]:
            require_torch(type(self).__name__)
            from ml4t.models.training.torch_settings import isolated  # noqa: PLC0415 - torch is optional

            with isolated(gradients=True):
                return estimate()

        return super()._run(trained, *inputs)

    def _resolved_device(self) -> str | None:
        require_torch(type(self).__name__)
        from ml4t.models.training.device import resolve_device  # noqa: PLC0415 - torch is optional

        return str(resolve_device(getattr(self.config, "device", "cpu")))


def regression_summary(
    history: tuple[dict[str, float], ...],
    *,
    n_observations: int,
    epochs: Sequence[int],
    best_epoch: int,
    validated: bool,
) -> FitSummary:
    """Summary of a regression that records training and validation loss of every epoch."""
    lowest = min(entry["val_loss"] for entry in history)
    return FitSummary(
        converged=True,
        train_metrics={"n_train_observations": n_observations, "n_checkpoints": len(epochs)},
        val_metrics={"best_val_loss": lowest} if validated else {},
        best_epoch=best_epoch,
        history=tuple(dict(entry) for entry in history),
    )


def lowest_loss(epochs: Sequence[int], history: Sequence[Mapping[str, float]]) -> int:
    """Epoch with the lowest validation loss; `history` holds every epoch from 1."""
    return min(epochs, key=lambda epoch: history[epoch - 1]["val_loss"])


def _require_layout(
    where: str,
    layout: Mapping[str, tuple[tuple[int, ...], str]],
    state: Mapping[str, FloatArray],
) -> None:
    """Raise `ValueError` unless names, shapes and precision are those of the settings."""
    if state.keys() != layout.keys():
        differing = sorted(state.keys() ^ layout.keys())
        raise ValueError(
            f"{where} must have the parameters of the settings; {', '.join(differing)} differ"
        )
    for name, (shape, dtype) in layout.items():
        require_shape(f"{where}: {name}", shape, state[name].shape)
        if state[name].dtype.name != dtype:
            raise ValueError(f"{where}: {name} must be {dtype}; got {state[name].dtype.name}")


def choose_checkpoint(
    requested: Label | None,
    configured: Label | str | None,
    available: Sequence[Label],
    *,
    best: Label | None,
    fallback: Label,
) -> Label:
    """Choose the checkpoint of a request.

    Parameters
    ----------
    requested : label or None
        Argument of the call; must be available.
    configured : label, "best" or None
        The setting `default_checkpoint`, used without a request.
    available : sequence of labels
    best : label or None
        The best one; `fallback` when training had nothing to compare.
    fallback : label
        Without a request and a setting.

    Raises
    ------
    ValueError
        When the label is not available, naming it and those that are.
    """
    if not isinstance(requested, Hashable):
        raise TypeError(
            f"checkpoint must be one of available_checkpoints {tuple(available)}; "
            f"got {type(requested).__name__}"
        )
    if requested is not None:
        if requested not in available:
            raise ValueError(
                f"checkpoint={requested!r} is not in available_checkpoints {tuple(available)}"
            )
        return available[available.index(requested)]  # not True or a NumPy integer for 1
    if configured is None:
        return fallback
    if configured == "best":
        return fallback if best is None else best
    for label in available:
        if label == configured:
            return label
    raise ValueError(
        f"default_checkpoint={configured!r} is not in available_checkpoints {tuple(available)}"
    )
