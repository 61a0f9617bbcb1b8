"""Trained runs to export, each made once."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from tiny_exports import NAMES, save_run, tiny

from efficientdet.inference.detector import Detector, load_detector


@pytest.fixture(scope="session")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of the run of one of `MODELS`."""

    @cache
    def run_of(name: str) -> Path:
        folder = tmp_path_factory.mktemp("runs") / name
        save_run(folder, tiny(name))
        return folder

    return run_of


@pytest.fixture(scope="session")
def detector_of(run_of: Callable[[str], Path]) -> Callable[[str], Detector]:
    """A detector of that run, as evaluation has it."""
    return cache(lambda name: load_detector(tiny(name), run_of(name), NAMES))
