r"""The two networks of the conditional autoencoder, for all members of an ensemble at once.

.. math:: \beta_{ti} = g(z_{ti}),\quad f_t = W x_t,\quad \hat r_{ti} = \beta_{ti}'f_t

Every parameter has a leading member axis `E`; activations are laid out as (E, units, rows), so that
the first layer of all members is one matrix product with the same characteristics.

The batch norm of the first layer costs no pass over its activations. For pre-activations
:math:`a = Wz` of a batch with mean :math:`\bar z` and covariance :math:`S`, the mean of unit h is
:math:`w_h'\bar z` and its variance :math:`w_h'Sw_h`, so that normalising amounts to rescaling the
rows of `W` and shifting the result. :math:`\bar z` and :math:`S` are shared by all members. One
member alone is cheaper layer by layer, since `S` costs as much as its whole network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from ml4t.models.latent_factors.cae import fused_ensemble as batchwise
from ml4t.models.training import initialization as initial
from ml4t.models.training.device import generator

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

EPSILON = 1e-5
MOMENTUM = 0.1


@dataclass(frozen=True, slots=True)
class Sizes:
    """Widths of the networks.

    Attributes
    ----------
    n_characteristics : int
        L.
    n_inputs : int
        P, inputs of the factor network.
    hidden : tuple of int
    n_factors : int
        K.
    """

    n_characteristics: int
    n_inputs: int
    hidden: tuple[int, ...]
    n_factors: int


@dataclass(frozen=True, slots=True)
class Moments:
    """Moments of the rows of a batch, for the first batch norm.

    Attributes
    ----------
    n_rows : int
    mean : Tensor, shape (L,)
    covariance : Tensor, shape (L, L)
        Population covariance.
    """

    n_rows: int
    mean: Tensor
    covariance: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> Moments:
        """Take the moments of `rows` (B, L + 1), whose last column is 1."""
        mean = rows[:, :-1].mean(dim=0)
        covariance = rows.new_zeros(len(mean), len(mean))
        for block in torch.split(rows[:, :-1], 1024):  # a block stays in cache
            centred = block - mean
            covariance.addmm_(centred.T, centred)
        return cls(len(rows), mean, covariance / len(rows))


class CAENet(nn.Module):
    """Beta and factor networks of E members.

    Parameters
    ----------
    sizes : Sizes
    seeds : sequence of int
        One per member; each draws from its own generator, as if it were alone.
    device, dtype
    """

    def __init__(
        self, sizes: Sizes, seeds: Sequence[int], *, device: torch.device, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.sizes = sizes
        n_members = len(seeds)

        def new(*shape: int) -> nn.Parameter:
            return initial.empty(n_members, *shape, device=device, dtype=dtype)

        widths = (sizes.n_characteristics, *sizes.hidden)
        for layer, (n_in, n_out) in enumerate(zip(widths, sizes.hidden, strict=False)):
            self.register_parameter(f"weight_{layer}", new(n_out, n_in))
            self.register_parameter(f"scale_{layer}", nn.Parameter(torch.ones_like(new(n_out))))
            self.register_parameter(f"shift_{layer}", nn.Parameter(torch.zeros_like(new(n_out))))
            ones = torch.ones(n_members, n_out, device=device, dtype=dtype)
            self.register_buffer(f"mean_{layer}", torch.zeros_like(ones))
            self.register_buffer(f"variance_{layer}", ones)
        self.output_weight = new(sizes.n_factors, widths[-1])
        self.output_bias = new(sizes.n_factors, 1)
        self.factor_weight = new(sizes.n_factors, sizes.n_inputs)
        self._draw(seeds, device)

    def _draw(self, seeds: Sequence[int], device: torch.device) -> None:
        for member, seed in enumerate(seeds):
            source = generator(seed, device)
            for layer in range(len(self.sizes.hidden)):
                initial.linear_(self._layer(layer).weight[member], None, source)
            initial.linear_(self.output_weight[member], self.output_bias[member], source)
            initial.linear_(self.factor_weight[member], None, source)

    def _layer(self, index: int) -> _Layer:
        names = ("weight", "scale", "shift", "mean", "variance")
        return _Layer(*(getattr(self, f"{name}_{index}") for name in names))

    def first_layer(self, moments: Moments | None) -> Tensor:
        """Weights of the first hidden layer on [z, 1], batch norm folded in, (E, H, L + 1)."""
        return self._layer(0).folded(moments)

    def alone(self, call: batchwise.Call, inputs: Tensor) -> Tensor:
        """Mean error (1,) in training of one member with one hidden layer."""
        first = self._layer(0)
        loss, mean, variance = batchwise.mean_error(
            call,
            first.weight[0],
            first.scale[0, :, None],
            first.shift[0, :, None],
            self.output_weight[0],
            self.output_bias[0],
            self.factors(inputs)[0],
        )
        first.follow(mean, variance, len(call.targets.rows))
        return loss

    def betas(self, rows: Tensor, moments: Moments | None = None) -> Tensor:
        """Betas of every member, shape (E, K, B).

        Parameters
        ----------
        rows : Tensor, shape (B, L + 1)
            Characteristics, and a last column of ones.
        moments : Moments, optional
            Those of `rows`, in training, so that the first batch norm need not take them from its
            activations. In evaluation the running moments are used.
        """
        n_members, n_rows = len(self.factor_weight), len(rows)
        if not self.sizes.hidden:
            weight = torch.cat([self.output_weight, self.output_bias], dim=2).flatten(0, 1)
            return (weight @ rows.T).view(n_members, self.sizes.n_factors, n_rows)
        if self.training and moments is None:
            first = self._layer(0)
            raw = (first.weight.flatten(0, 1) @ rows[:, :-1].T).view(n_members, -1, n_rows)
            hidden = first.rectified(raw, training=True)
        else:
            weight = self.first_layer(moments).flatten(0, 1)
            hidden = torch.relu_(weight @ rows.T).view(n_members, self.sizes.hidden[0], n_rows)
        for index in range(1, len(self.sizes.hidden)):
            layer = self._layer(index)
            raw = torch.bmm(layer.weight, hidden)
            hidden = layer.rectified(raw, training=self.training)
        return torch.baddbmm(self.output_bias, self.output_weight, hidden)

    def factors(self, inputs: Tensor) -> Tensor:
        """Factors of every member at every date, shape (E, K, T); `inputs` is (T, P)."""
        flat = self.factor_weight.flatten(0, 1) @ inputs.T
        return flat.view(len(self.factor_weight), self.sizes.n_factors, len(inputs))

    def weights(self, scope: str) -> Iterator[Tensor]:
        """Yield the weight matrices under the penalty, each (E, out, in).

        Parameters
        ----------
        scope : {"beta_hidden", "beta", "factor", "all"}
        """
        if scope != "factor":
            for layer in range(len(self.sizes.hidden)):
                yield self._layer(layer).weight
        if scope in ("beta", "all"):
            yield self.output_weight
        if scope in ("factor", "all"):
            yield self.factor_weight


@dataclass(frozen=True, slots=True)
class _Layer:
    """A linear layer and its batch norm; a bias before a batch norm would do nothing."""

    weight: Tensor
    scale: Tensor
    shift: Tensor
    mean: Tensor
    variance: Tensor

    def folded(self, moments: Moments | None) -> Tensor:
        """Weights on [z, 1] that give the normalised pre-activations, shape (E, H, L + 1)."""
        mean, variance = self.mean, self.variance
        if moments is not None:
            mean = self.weight @ moments.mean
            variance = ((self.weight @ moments.covariance) * self.weight).sum(dim=2)
            self.follow(mean, variance, moments.n_rows)
        rescale = self.scale * torch.rsqrt(variance + EPSILON)
        intercept = self.shift - rescale * mean
        return torch.cat([rescale[..., None] * self.weight, intercept[..., None]], dim=2)

    def follow(self, mean: Tensor, variance: Tensor, n_rows: int) -> None:
        """Move the running moments towards those of the batch (variance with n - 1)."""
        with torch.no_grad():
            self.mean.lerp_(mean, MOMENTUM)
            self.variance.lerp_(variance * (n_rows / max(n_rows - 1, 1)), MOMENTUM)

    def rectified(self, raw: Tensor, *, training: bool) -> Tensor:
        """Normalise pre-activations (E, H, B), and rectify."""
        out = functional.batch_norm(
            raw.flatten(0, 1).unsqueeze(0),
            self.mean.view(-1),
            self.variance.view(-1),
            self.scale.view(-1),
            self.shift.view(-1),
            training=training,
            momentum=MOMENTUM,
            eps=EPSILON,
        )
        return torch.relu_(out).view_as(raw)  # in this order: in place on a view makes copies
