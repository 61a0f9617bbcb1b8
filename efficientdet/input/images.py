"""Image files, or the images inside records -> batches for detection."""

import glob
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NoReturn

import numpy as np

from efficientdet.config import Config
from efficientdet.dataset.example import Record
from efficientdet.dataset.file_names import file_name
from efficientdet.dataset.image import ImageError, decode
from efficientdet.dataset.rules import place_name
from efficientdet.dataset.shards import require_shards
from efficientdet.dataset.splits import read_split_file
from efficientdet.dataset.tfrecord import Place, expand_pattern, read_records
from efficientdet.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg")
_RECORD = re.compile(r"\.(tf)?records?[^.]*$")  # val.record, val.record-00000-of-00004, *.tfrecord


@dataclass(frozen=True, slots=True)
class RecordImage:
    """An image inside a record: what this module wants of a Path, and no more.

    Attributes:
        stem: what its results are called, see `file_name`.
    """

    place: Place
    stem: str

    def __str__(self) -> str:
        return f"{self.place} ({self.stem})"

    def read_bytes(self) -> bytes:
        """The encoded image."""
        return Record.parse(self.place.read()).encoded


def require_images(pattern: str) -> None:
    """Raises UserError where `pattern` names nothing at all; at once, as it reads no record."""
    for part in filter(None, map(str.strip, pattern.split(","))):
        if _is_record(part):
            expand_pattern(part)
            return
        if _image_files(part):
            return
    raise _nothing(pattern)


def find_images(pattern: str, image_list: str | None = None) -> list[Path | RecordImage]:
    """The images of files, globs, folders (a KITTI root too) and records, named by commas.

    Args:
        image_list: frame ids, one a line (KITTI's ImageSets); only those are kept.

    Raises:
        UserError: nothing was found, or a record that is damaged, not what its manifest says, or
            names an image by what cannot name a file.
    """
    parts = filter(None, map(str.strip, pattern.split(",")))
    found = list(dict.fromkeys(path for part in parts for path in _images(part)))
    if image_list:
        wanted = set(read_split_file(image_list))
        found = [path for path in found if Path(path.stem).name in wanted]
    if not found:
        among = f" of those that {image_list} lists" if image_list else ""
        raise _nothing(pattern, among)
    return found


def _refuse(what: str) -> NoReturn:
    raise UserError(what)


def image_batches(
    paths: Sequence[Path | RecordImage],
    config: Config,
    batch_size: int,
    on_unreadable: Callable[[str], None] = _refuse,
) -> Iterator[tuple[dict[str, np.ndarray], list[np.ndarray]]]:
    """(batch with `images`, `image_scale`, `original_hw`, `source_id`, `valid`; uint8 originals).

    An array of the latter is in the batch too, as `originals`.

    The last batch is filled up with rows that are not `valid`.

    Args:
        on_unreadable: is told of each file that is no readable image, which is left out; by default
            it is an error.
    """
    from efficientdet.input.pipeline import preprocess
    from efficientdet.tensorflow_device import tf

    readable = _decoded(paths, on_unreadable)
    while chosen := list(islice(readable, batch_size)):
        missing = batch_size - len(chosen)
        stems, originals = zip(*chosen, strict=True)
        rows = [preprocess(tf.constant(image), config) for image in originals]
        rows += missing * rows[:1]
        batch = {
            "images": np.stack([image.numpy() for image, _ in rows]),
            "image_scale": np.stack([scale.numpy() for _, scale in rows]),
            "original_hw": np.array([image.shape[:2] for image in originals] + missing * [(1, 1)]),
            "source_id": np.array([*stems] + missing * [""]),
            "valid": np.arange(batch_size) < len(chosen),
            "originals": as_objects(originals),
        }
        yield batch, list(originals)


def original_batch(image: np.ndarray, source_id: str, config: Config) -> dict[str, np.ndarray]:
    """A batch, as of `image_batches`, of one image, uint8 [h, w, 3]."""
    from efficientdet.input.pipeline import preprocess
    from efficientdet.tensorflow_device import tf

    pixels, scale = preprocess(tf.constant(image), config)
    return {
        "images": pixels.numpy()[None],
        "image_scale": scale.numpy()[None],
        "original_hw": np.array([image.shape[:2]]),
        "source_id": np.array([source_id]),
        "originals": as_objects([image]),
    }


def as_objects(images: Sequence[np.ndarray]) -> np.ndarray:
    """An array of images, whatever their sizes: what an exported detector takes."""
    array = np.empty(len(images), object)
    for row, image in enumerate(images):
        array[row] = image
    return array


def _nothing(pattern: str, among: str = "") -> UserError:
    return UserError(
        f"{pattern}: no .png or .jpg image{among}; name files, a folder, a glob or a record"
    )


def _images(part: str) -> list[Path] | list[RecordImage]:
    """The images of one file, folder, KITTI root or glob, sorted; of a record, in its order."""
    if not _is_record(part):
        return _image_files(part)
    files = expand_pattern(part)
    require_shards(files)
    return [image for file in files for image in _images_of_record(file)]


def _is_record(part: str) -> bool:
    return bool(_RECORD.search(Path(part).name)) and not Path(part).is_dir()


def _image_files(part: str) -> list[Path]:
    path = Path(part)
    folders = (path / "training/image_2", path / "image_2", path)
    if folder := next(filter(Path.is_dir, folders), None):
        paths = list(folder.iterdir())
    elif path.is_file():  # also a name with brackets, which a glob would not find
        paths = [path]
    else:
        paths = [Path(name) for name in glob.glob(part)]  # noqa: PTH207 (Path.glob: no absolute ones)
    # macOS leaves ._000000.png beside 000000.png.
    visible = (path for path in paths if not path.name.startswith("."))
    return sorted(path for path in visible if path.suffix.lower() in SUFFIXES and path.is_file())


def _images_of_record(file: Path) -> Iterator[RecordImage]:
    for place, serialized in read_records(file):
        record = Record.parse(serialized)
        stem = f"{place.index:06d}"  # some tools store no name
        try:
            yield RecordImage(place, file_name(record.source_id) if record.source_id else stem)
        except UserError as error:
            raise UserError(f"{place_name(place, record)}: {error}") from None


def _decoded(
    paths: Sequence[Path | RecordImage], on_unreadable: Callable[[str], None]
) -> Iterator[tuple[str, np.ndarray]]:
    """Name and pixels of each image that can be read."""
    for path in paths:
        try:
            yield path.stem, _decode(path)
        except UserError as error:
            on_unreadable(str(error))


def _decode(path: Path | RecordImage) -> np.ndarray:
    try:
        return decode(path.read_bytes())
    except (OSError, ImageError) as error:
        raise UserError(f"{path}: not a readable PNG or JPEG image") from error
