"""What an image file says about itself, read from its first and last bytes; no pixel is decoded."""

import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

_PNG_END = b"IEND\xaeB`\x82"
_JPEG_END = b"\xff\xd9"


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


def read_size(path: Path) -> tuple[int, int] | None:
    """Width and height of an image file in pixels, from its header; None where it has none."""
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            return image.size
    except Exception:  # likewise
        return None


def decode(encoded: bytes) -> Image.Image:
    """The decoded image as RGB.

    Raises:
        ImageError: damaged pixels.
    """
    try:
        with Image.open(io.BytesIO(encoded), formats=("PNG", "JPEG")) as image:
            image.verify()  # the checksums, which Pillow would skip; TensorFlow does not
        with Image.open(io.BytesIO(encoded), formats=("PNG", "JPEG")) as image:
            return image.convert("RGB")
    except Exception as error:  # likewise
        raise ImageError(f"does not decode: {error}") from None
