"""Fixtures for every test: where the repository is, and where the real KITTI frames are."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's top folder."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real KITTI frames and AutoML's golden numbers; without the folder its tests are skipped."""
    folder = ROOT.parent / "shared"
    if not (folder / "kitti").is_dir():
        pytest.skip("needs ../shared (real KITTI frames and golden numbers), which is absent here")
    return folder
