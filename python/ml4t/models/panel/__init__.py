"""What a panel is: which cells are observed, which asset is which, what its moments are."""

from ml4t.models.panel.moments import CharacteristicMoments

__all__ = ["CharacteristicMoments"]
