"""The zip that KITTI's server takes for its 2D object benchmark.

As the readme of the object devkit has it: files `000000.txt`, `000001.txt`, ... with 16 columns,
those of the test set only, one for each image, in the root folder of the archive.
"""

import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence

from efficientdet.atomic import atomic_path
from efficientdet.dataset.kitti import BENCHMARK, CLASSES
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UserError
from efficientdet.evaluation.frames import FrameDetections
from efficientdet.evaluation.results import kitti_lines
from efficientdet.wording import counted, listed

NUM_TEST_IMAGES = 7518
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can tell: the same bytes on every day


def require_ids(names: Iterable[str]) -> None:
    """Raises UserError where an image is not called as one of KITTI's."""
    if odd := [name for name in names if not re.fullmatch("[0-9]{6}", name)]:
        raise UserError(
            f"--submission: {counted(len(odd), 'image')} not named by six digits, first {odd[0]}; "
            "KITTI's server takes 000000.txt and so on: predict on testing/image_2 alone"
        )


def write_submission(
    path: str, detections: Iterable[FrameDetections], label_map: LabelMap
) -> list[str]:
    """Writes one text file for each frame, in the order of their ids, empty where nothing is.

    The same detections are the same bytes. Lines of a class that KITTI does not have are left out.

    Returns:
        What the server will not like, a line each.
    """
    detections = sorted(detections, key=lambda frame: frame.source_id)
    with atomic_path(path) as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for frame in detections:
                info = zipfile.ZipInfo(f"{frame.source_id}.txt", _EPOCH)
                info.create_system, info.external_attr = 3, 0o644 << 16  # on Windows, too
                info.compress_type = zipfile.ZIP_DEFLATED
                lines = kitti_lines(frame, label_map)
                archive.writestr(info, "".join(x for x in lines if x.split(" ", 1)[0] in CLASSES))
    ids = [int(frame.source_id) for frame in detections]
    return [*_missing(ids), *_unknown(label_map)]


def _missing(ids: Sequence[int]) -> Iterator[str]:
    last = max([NUM_TEST_IMAGES - 1, *ids])
    absent = sorted(set(range(max(ids, default=0) + 1)).difference(ids))
    if absent:
        names = listed([f"{number:06d}" for number in absent])
        yield f"no file for {counted(len(absent), 'image')} among 000000 to {max(ids):06d}: {names}"
    if last >= NUM_TEST_IMAGES:
        yield f"{last:06d} is none of KITTI's test images, which end at {NUM_TEST_IMAGES - 1:06d}"
    elif len(ids) < NUM_TEST_IMAGES:
        yield (
            f"{counted(len(ids), 'file')}: the test set has {NUM_TEST_IMAGES:,} images, and the "
            "server wants a file for each"
        )


def _unknown(label_map: LabelMap) -> Iterator[str]:
    names = list(label_map.names.values())
    if odd := [name for name in names if name not in CLASSES]:
        yield f"{listed(odd)}: no class of KITTI's, left out of the archive"
    if absent := [name for name in BENCHMARK if name not in names]:
        yield f"no {listed(absent)} in the label map: the server will find none"
