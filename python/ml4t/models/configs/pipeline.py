"""Settings of the mapper of a pipeline."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MapperConfig:
    """Settings of an asset mapper.

    Attributes
    ----------
    model_name : str, default "beta_lambda"
        Under which results and fit records name the mapper.
    """

    model_name: str = "beta_lambda"

    def __post_init__(self) -> None:
        """Refuse a mapper without a name."""
        if not isinstance(self.model_name, str) or not self.model_name:
            raise ValueError(f"model_name must be non-empty text; got {self.model_name!r}")
