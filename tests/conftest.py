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
    """The folder with real KITTI frames and AutoML's golden numbers; its tests are skipped without."""
    folder = ROOT.parent / "shared"
    if not (folder / "kitti").is_dir():
        pytest.skip("needs ../shared (real KITTI frames and golden numbers), which is absent here")
    return folder
