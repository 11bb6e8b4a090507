"""Second moments of instruments and returns by date, from memory, frames and Parquet files."""

from ml4t.models.moments.characteristic_moments import CharacteristicMoments

__all__ = ["CharacteristicMoments"]
