"""What an image file says about itself, read from its first and last bytes; and its pixels.

Records hold PNG and JPEG. BMP and WebP are made PNGs of the same pixels on their way in.
"""

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from efficientdet.errors import one_line

if TYPE_CHECKING:  # it takes seconds to load, and headers are read without
    import tensorflow as tf

_PNG_END = b"IEND\xaeB`\x82"
_JPEG_END = b"\xff\xd9"
_ORIENTATION = 0x0112  # of EXIF: 1 as stored, 2 to 8 turned or mirrored
_BEGINNINGS = (b"\x89PNG", b"\xff\xd8")
_OTHERS = {"BMP": re.compile(rb"BM"), "WEBP": re.compile(rb"RIFF....WEBP", re.DOTALL)}


class ImageError(ValueError):
    """Bytes that are not a whole PNG or JPEG; the text says why, without the file's name."""


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """Format (`png` or `jpeg`, by content) and size in pixels."""

    format: str
    height: int
    width: int


def read_header(encoded: bytes) -> ImageHeader:
    """The header of an encoded image.

    Raises:
        ImageError: empty, neither PNG nor JPEG, or cut off before its end marker.
    """
    if not encoded:
        raise ImageError("empty file")
    try:
        with Image.open(io.BytesIO(encoded), formats=("PNG", "JPEG")) as image:
            header = ImageHeader(image.format.lower(), image.height, image.width)
    except Exception:  # Pillow fails in many ways on bytes that are no image
        raise ImageError("neither a PNG nor a JPEG image, or its header is damaged") from None
    # Some writers append a few bytes after the end marker.
    end = _PNG_END if header.format == "png" else _JPEG_END
    if end not in encoded[-1024:]:
        raise ImageError(f"truncated {header.format.upper()}: its end marker is missing")
    return header


def as_png(encoded: bytes) -> tuple[bytes, str]:
    """A BMP or WebP image as a PNG of the same pixels, and which it was; others as they are.

    Raises:
        ImageError: it does not decode, or moves.
    """
    kind = next((name for name, start in _OTHERS.items() if start.match(encoded)), "")
    if not kind:
        return encoded, ""
    buffer = io.BytesIO()
    try:
        with Image.open(io.BytesIO(encoded), formats=(kind,)) as image:
            if getattr(image, "is_animated", False):
                raise ImageError(f"a {kind} of {image.n_frames} pictures; expected one")
            image.convert("RGB").save(buffer, "PNG")
    except ImageError:
        raise
    except Exception:  # as above
        raise ImageError(f"a {kind} that does not decode") from None
    return buffer.getvalue(), kind


def read_size(path: Path) -> tuple[int, int] | None:
    """Width and height of an image file in pixels, from its header; None where it has none."""
    try:
        if not path.is_file():  # a pipe would never end
            return None
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            return image.size
    except Exception:  # likewise
        return None


def is_turned(encoded: bytes) -> bool:
    """Whether EXIF asks viewers to turn or mirror a JPEG, which `decode_tensor` does not."""
    if b"Exif" not in encoded[: 2**16]:
        return False
    try:
        with Image.open(io.BytesIO(encoded), formats=("JPEG",)) as image:
            return image.getexif().get(_ORIENTATION, 1) not in (0, 1)
    except Exception:  # Pillow fails in many ways on bytes that are no image
        return False


def grey_thumbnail(encoded: bytes, least_side: int) -> Image.Image:
    """A quick grey look at an image, of `least_side` pixels or more where the image has them.

    For comparing pictures alone: it is not what training reads. A JPEG is decoded at a fraction of
    its size.

    Raises:
        ImageError: damaged, or no image.
    """
    try:
        with Image.open(io.BytesIO(encoded), formats=("PNG", "JPEG")) as image:
            image.draft("L", (least_side, least_side))
            if image.mode.startswith("I"):  # 16 bits, which Pillow would cut off at 255
                return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            return image.convert("L")
    except Exception as error:  # Pillow fails in many ways
        raise ImageError(f"does not decode: {one_line(error)}") from None


def decode_tensor(encoded: "tf.Tensor") -> "tf.Tensor":
    """The pixels of a PNG or JPEG, uint8 [H, W, 3] RGB: the one place where bytes become pixels.

    Training (inside tf.data), evaluation, prediction and every picture go through it, because
    libraries disagree: Pillow cuts 16 bits off at 255, and its JPEGs differ by a few grey levels.
    Of 16 bits the upper eight stay; a palette is looked up, grey is repeated, alpha is dropped.
    Pixels stay as they are stored: an EXIF orientation turns nothing, as no box would turn with it.
    """
    from efficientdet.tensorflow_device import tf

    return tf.io.decode_image(encoded, channels=3, expand_animations=False)


def decode(encoded: bytes) -> np.ndarray:
    """`decode_tensor` outside a graph: uint8 [H, W, 3].

    Raises:
        ImageError: neither PNG nor JPEG, or damaged pixels.
    """
    if not encoded.startswith(_BEGINNINGS):  # TensorFlow would read others too
        raise ImageError("neither a PNG nor a JPEG image")
    from efficientdet.tensorflow_device import tf

    try:
        return decode_tensor(encoded).numpy()
    except tf.errors.OpError as error:
        raise ImageError(f"does not decode: {one_line(error)}") from None
