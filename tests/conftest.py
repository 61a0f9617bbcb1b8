"""Fixtures for every test: where the repository is, and where the real KITTI frames are."""

import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from listening import listening
from PIL import Image

from efficientdet.dataset.splits import kitti_size

# A shell starts what runs in the background with SIGINT ignored, nohup with SIGHUP, and children
# inherit that; the tests of signals need the ordinary handlers.
for _number, _handler in {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGHUP: signal.SIG_DFL,
}.items():
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)

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


CAR = "Car 0.00 0 -1.57 10.00 8.00 50.00 30.00 1.5 1.6 3.9 1.0 1.7 20.0 0.01"
VAN = "Van 0.20 1 -1.57 60.25 8.00 90.00 30.50 2.0 1.8 4.9 1.0 1.7 20.0 0.01"
WALKER = "Pedestrian 0.00 0 0.1 3.00 5.00 8.00 18.00 1.8 0.5 0.8 1.0 1.7 30.0 0.01"
REGION = "DontCare -1 -1 -10 70.00 2.00 80.00 6.00 -1 -1 -1 -1000 -1000 -1000 -10"
LABELS = {
    "000000": [CAR, VAN, REGION],
    "000001": [WALKER],
    "000002": [CAR],
    "000003": [],
}


@pytest.fixture
def make_kitti(tmp_path: Path) -> Callable[..., Path]:
    """Writes `training/{image_2,label_2}` under a folder and returns it.

    `size` is that of all images, width and height; None: of each the size that KITTI's image has.
    """

    def make(
        labels: Mapping[str, list[str]] = LABELS,
        root: str = "kitti",
        suffix: str = ".png",
        size: tuple[int, int] | None = (100, 40),
    ) -> Path:
        for folder in ("image_2", "label_2"):
            (tmp_path / root / "training" / folder).mkdir(parents=True, exist_ok=True)
        for name, lines in labels.items():
            training = tmp_path / root / "training"
            image = Image.new("RGB", size or kitti_size(name), (int(name) % 256, 90, 90))
            image.save(training / "image_2" / f"{name}{suffix}")
            (training / "label_2" / f"{name}.txt").write_text("".join(f"{x}\n" for x in lines))
        return tmp_path / root

    return make
