"""Headers, and what is no whole image."""

import contextlib
import io

import numpy as np
import pytest
from PIL import Image

from efficientdet.dataset.image import ImageError, ImageHeader, decode, read_header


def encoded(kind: str, size: tuple[int, int] = (31, 17)) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise(size, 60).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_format_and_size_come_from_the_bytes(kind):
    assert read_header(encoded(kind)) == ImageHeader(kind, height=17, width=31)
    assert read_header(encoded(kind) + b"\0" * 9) == ImageHeader(kind, height=17, width=31)
    assert decode(encoded(kind)).shape == (17, 31, 3) and decode(encoded(kind)).dtype == np.uint8


@pytest.mark.parametrize("kind", ["png", "jpeg"])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.97])
def test_no_part_of_an_image_passes(kind, share):
    whole = encoded(kind)
    with pytest.raises(ImageError):
        read_header(whole[: int(share * len(whole))])


@pytest.mark.parametrize("data", [b"", b"hello", encoded("gif"), b"\x89PNG\r\n\x1a\n" + b"\0" * 50])
def test_other_bytes_are_an_image_error(data):
    with pytest.raises(ImageError):
        read_header(data)
    with pytest.raises(ImageError):
        decode(data)


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_damaged_bytes_give_a_header_or_an_image_error(kind):
    whole = bytearray(encoded(kind))
    for index in range(min(len(whole), 700)):
        whole[index] ^= 0xFF
        for read in (read_header, decode):
            with contextlib.suppress(ImageError):
                read(bytes(whole))
        whole[index] ^= 0xFF


def test_every_flipped_byte_of_a_png_is_noticed():
    whole = bytearray(encoded("png"))
    for index in range(40, len(whole), 37):
        whole[index] ^= 0x55
        with pytest.raises(ImageError):
            decode(bytes(whole))
        whole[index] ^= 0x55
