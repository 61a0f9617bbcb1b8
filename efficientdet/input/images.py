"""Image files, or the images inside records -> batches for detection; and where videos are."""

import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NoReturn

import numpy as np

from efficientdet.config import Config
from efficientdet.dataset.example import Record
from efficientdet.dataset.file_names import file_name
from efficientdet.dataset.image import ImageError, as_png, decode, is_turned
from efficientdet.dataset.kitti import IMAGE_SUFFIXES as SUFFIXES
from efficientdet.dataset.rules import place_name
from efficientdet.dataset.shards import require_shards
from efficientdet.dataset.splits import read_split_file
from efficientdet.dataset.tfrecord import Place, expand_pattern, read_records
from efficientdet.errors import UserError

KINDS = "PNG, JPEG, BMP or WebP"
_OTHER_SUFFIXES = (".tif", ".tiff", ".gif", ".heic", ".avif", ".ppm", ".pgm", ".jp2")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv")
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


@dataclass(frozen=True, slots=True)
class FolderImage:
    """An image in a folder inside the one that was named: `cam1/000001`, as the converter has it.

    Attributes:
        stem: what its results are called.
    """

    path: Path
    stem: str

    def __str__(self) -> str:
        return str(self.path)

    def read_bytes(self) -> bytes:
        """The encoded image."""
        return self.path.read_bytes()


InputImage = Path | RecordImage | FolderImage
DETECTIONS = "detections.jsonl"  # says that predict.py wrote the pictures of a folder


def file_of(image: InputImage) -> Path | None:
    """The file that it is; None inside a record."""
    if isinstance(image, RecordImage):
        return None
    return image.path if isinstance(image, FolderImage) else image


def require_images(pattern: str) -> None:
    """Raises UserError where a part of `pattern` names nothing; at once, as it reads no record."""
    parts = _parts(pattern)
    for part in parts:
        if is_record(part):
            expand_pattern(part)
        elif not _files(part, SUFFIXES + VIDEO_SUFFIXES):
            raise _nothing(part)
    if not parts:
        raise _nothing(pattern)


def other_images(pattern: str) -> list[Path]:
    """Files among what `pattern` names that are images of a kind that is not read."""
    parts = (part for part in _parts(pattern) if not is_record(part))
    return [path for part in parts for path in _files(part, _OTHER_SUFFIXES)]


def find_images(pattern: str, image_list: str | None = None) -> list[InputImage]:
    """The images of files, globs, folders (a KITTI root too) and records, named by commas.

    Of a folder without any, and without videos, those in the folders inside it, but for what
    predict.py wrote.

    Args:
        image_list: frame ids, one a line (KITTI's ImageSets); only those are kept.

    Raises:
        UserError: nothing was found, no video either; or a record that is damaged, not what its
            manifest says, or names an image by what cannot name a file.
    """
    found = list(dict.fromkeys(path for part in _parts(pattern) for path in _images(part)))
    found = _listed(found, image_list)
    if not found and not find_videos(pattern, image_list):
        among = f" of those that {image_list} lists" if image_list else ""
        raise _nothing(pattern, among)
    return found


def find_videos(pattern: str, image_list: str | None = None) -> list[Path]:
    """The videos among what `find_images` takes, without a look into them."""
    parts = (part for part in _parts(pattern) if not is_record(part))
    found = (path for part in parts for path in _files(part, VIDEO_SUFFIXES))
    return _listed(list(dict.fromkeys(found)), image_list)


def _parts(pattern: str) -> list[str]:
    return [part for part in map(str.strip, pattern.split(",")) if part]


def _listed(found: list, image_list: str | None) -> list:
    if not image_list:
        return found
    wanted = set(read_split_file(image_list, {path.stem for path in found}))
    return [path for path in found if {path.stem, Path(path.stem).name} & wanted]


def _refuse(what: str) -> NoReturn:
    raise UserError(what)


def image_batches(
    paths: Sequence[InputImage],
    config: Config,
    batch_size: int,
    on_unreadable: Callable[[str], None] = _refuse,
    on_turned: Callable[[str], None] = lambda name: None,
) -> Iterator[tuple[dict[str, np.ndarray], list[np.ndarray]]]:
    """`pixel_batches` of image files.

    Args:
        on_unreadable: is told of each file that is no readable image, which is left out; by default
            it is an error.
        on_turned: is told the name of each image that EXIF would turn, see `decode_tensor`.
    """
    return pixel_batches(_decoded(paths, on_unreadable, on_turned), config, batch_size)


def pixel_batches(
    named: Iterable[tuple[str, np.ndarray]], config: Config, batch_size: int
) -> Iterator[tuple[dict[str, np.ndarray], list[np.ndarray]]]:
    """(batch with `images`, `image_scale`, `original_hw`, `source_id`, `valid`; uint8 originals).

    An array of the latter is in the batch too, as `originals`.

    The last batch is filled up with rows that are not `valid`.

    Args:
        named: what an image is called, and its pixels, uint8 [H, W, 3]; of any size.
    """
    from efficientdet.input.pipeline import preprocess
    from efficientdet.tensorflow_device import tf

    readable = iter(named)
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
    is_there = among or not pattern or glob.glob(pattern) or Path(pattern).exists()  # noqa: PTH207
    return UserError(
        f"{pattern}: {f'no {KINDS} image{among}' if is_there else 'nothing is there'}; name files, "
        f"a folder, a glob, a record or a video ({', '.join(VIDEO_SUFFIXES)})"
    )


def _images(part: str) -> Sequence[InputImage]:
    """The images of one file, folder, KITTI root or glob, sorted; of a record, in its order."""
    if not is_record(part):
        return [_named(path, _folder(part)) for path in _files(part, SUFFIXES)]
    files = expand_pattern(part)
    require_shards(files)
    return [image for file in files for image in _images_of_record(file)]


def is_record(part: str) -> bool:
    """Whether a path or a glob names records, by its ending."""
    return bool(_RECORD.search(Path(part).name)) and not Path(part).is_dir()


def _named(path: Path, folder: Path | None) -> Path | FolderImage:
    if folder in (None, path.parent):
        return path
    return FolderImage(path, path.relative_to(folder).with_suffix("").as_posix())


def _folder(part: str) -> Path | None:
    """The folder that a part names, if it does."""
    folders = (Path(part, "training/image_2"), Path(part, "image_2"), Path(part))
    return next(filter(Path.is_dir, folders), None)


def _files(part: str, suffixes: Sequence[str]) -> list[Path]:
    if folder := _folder(part):
        own = list(folder.iterdir())
        has_some = _chosen(own, SUFFIXES + VIDEO_SUFFIXES)
        return _chosen(own if has_some else _inside(folder), suffixes)
    if Path(part).is_file():  # also a name with brackets, which a glob would not find
        return _chosen([Path(part)], suffixes)
    return _chosen(map(Path, glob.glob(part)), suffixes)  # noqa: PTH207 (Path.glob: no absolute ones)


def _inside(folder: Path) -> Iterator[Path]:
    for path, folders, names in os.walk(folder):
        is_output = DETECTIONS in names and Path(path) != folder
        folders[:] = [name for name in folders if not (is_output or name.startswith("."))]
        yield from (Path(path, name) for name in names if not is_output)


def _chosen(paths: Iterable[Path], suffixes: Sequence[str]) -> list[Path]:
    # macOS leaves ._000000.png beside 000000.png.
    visible = (path for path in paths if not path.name.startswith("."))
    return sorted(path for path in visible if path.suffix.lower() in suffixes and path.is_file())


def _images_of_record(file: Path) -> Iterator[RecordImage]:
    for place, serialized in read_records(file):
        record = Record.parse(serialized)
        stem = f"{place.index:06d}"  # some tools store no name
        try:
            yield RecordImage(place, file_name(record.source_id) if record.source_id else stem)
        except UserError as error:
            raise UserError(f"{place_name(place, record)}: {error}") from None


def _decoded(
    paths: Sequence[InputImage],
    on_unreadable: Callable[[str], None],
    on_turned: Callable[[str], None],
) -> Iterator[tuple[str, np.ndarray]]:
    """Name and pixels of each image that can be read."""
    for path in paths:
        try:
            encoded, _ = as_png(path.read_bytes())
            pixels = decode(encoded)
        except (OSError, ImageError):
            on_unreadable(f"{path}: not a readable {KINDS} image")
            continue
        if is_turned(encoded):
            on_turned(str(path))
        yield path.stem, pixels
