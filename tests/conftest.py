"""What many tests need: one tiny bundle, made once."""

from pathlib import Path

import pytest

from .bundles import tiny_bundle


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a text bundle folder to read; a test that changes it makes its own."""
    return tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny.attar")
