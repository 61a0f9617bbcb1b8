"""Image files -> batches for detection."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from efficientdet.config import Config
from efficientdet.errors import UserError
from efficientdet.input.pipeline import preprocess

SUFFIXES = (".png", ".jpg", ".jpeg")


def find_images(pattern: str, image_list: str | None = None) -> list[Path]:
    """The images that `pattern` names: files, globs or folders (a KITTI root too), by commas.

    Args:
        image_list: a text file of frame ids (KITTI's ImageSets); only those are kept.

    Raises:
        UserError: nothing was found.
    """
    found: dict[Path, None] = {}
    for part in map(str.strip, pattern.split(",")):
        path = Path(part)
        folder = next(
            (f for f in (path / "training/image_2", path / "image_2", path) if f.is_dir()), None
        )
        paths = (
            sorted(folder.iterdir())
            if folder
            else sorted(Path().glob(part))
            if not path.is_absolute()
            else sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
        )
        found |= dict.fromkeys(p for p in paths if p.suffix.lower() in SUFFIXES)
    if image_list:
        try:
            wanted = set(Path(image_list).read_text(encoding="utf-8").split())
        except OSError as error:
            raise UserError(
                f"{image_list}: {error.strerror}; expected one frame id a line"
            ) from None
        found = {path: None for path in found if path.stem in wanted}
    if not found:
        raise UserError(f"{pattern}: no .png or .jpg image found; name files, a folder or a glob")
    return list(found)


def image_batches(
    paths: Sequence[Path], config: Config, batch_size: int
) -> Iterator[tuple[dict[str, np.ndarray], list[np.ndarray]]]:
    """(batch with `images`, `image_scale`, `source_id`, `valid`; the original uint8 images).

    The last batch is filled up with rows that are not `valid`.

    Raises:
        UserError: a file is no readable image; names it.
    """
    for first in range(0, len(paths), batch_size):
        chosen = paths[first : first + batch_size]
        originals = [_decode(path) for path in chosen]
        rows = [preprocess(tf.constant(image), config) for image in originals]
        rows += rows[:1] * (batch_size - len(chosen))
        batch = {
            "images": np.stack([image.numpy() for image, _ in rows]),
            "image_scale": np.array([float(scale) for _, scale in rows], np.float32),
            "source_id": np.array(
                [path.stem for path in chosen] + [""] * (batch_size - len(chosen))
            ),
            "valid": np.arange(batch_size) < len(chosen),
        }
        yield batch, originals


def _decode(path: Path) -> np.ndarray:
    try:
        image = tf.io.decode_image(path.read_bytes(), channels=3, expand_animations=False)
    except (OSError, tf.errors.InvalidArgumentError) as error:
        raise UserError(f"{path}: not a readable PNG or JPEG image") from error
    return image.numpy()
