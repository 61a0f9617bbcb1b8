"""Fixtures for every test: where the repository is, and where the real KITTI frames are."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from listening import listening

# A shell starts what runs in the background with SIGINT ignored, and its children inherit that;
# the tests of Ctrl-C need the ordinary handler.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def said() -> Iterator[list[str]]:
    """The lines that the project logs during a test."""
    lines: list[str] = []
    with listening(lines):
        yield lines


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
