"""What many tests need: one tiny bundle, made once."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from .bundles import tiny_bundle

# A law holds on a busy machine too, so time does not judge it.
settings.register_profile("attar", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("attar")


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a text bundle folder to read; a test that changes it makes its own."""
    return tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny.attar")
