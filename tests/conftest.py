"""Settings of every test: reproducible examples, one place for the real panels."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "house",
    derandomize=True,
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
# `HYPOTHESIS_PROFILE=thorough` looks at fresh and many more examples.
settings.register_profile(
    "thorough", parent=settings.get_profile("house"), max_examples=1000, derandomize=False
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "house"))

REAL_DATA = os.environ.get("ML4T_TEST_DATA")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if REAL_DATA is not None:
        return
    skip = pytest.mark.skip(reason="ML4T_TEST_DATA does not point to the real panels")
    for item in items:
        if "real_data" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real panels; mark tests that use it with `real_data`."""
    if REAL_DATA is None:
        pytest.skip("ML4T_TEST_DATA does not point to the real panels")
    return Path(REAL_DATA)
