"""One decoder decides what the pixels of an image are, whichever command asks."""

import io
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from efficientdet.config import Config
from efficientdet.dataset.example import Record, make_example
from efficientdet.dataset.image import ImageError, decode, read_header
from efficientdet.dataset.rules import Rules
from efficientdet.input.images import find_images, image_batches
from efficientdet.input.pipeline import InputPipeline, preprocess
from efficientdet.inspection import sheets

CONFIG = Config().override(
    {"image_size": "64x64", "jitter_min": 1.0, "jitter_max": 1.0, "input_rand_hflip": False}
)
RNG = np.random.default_rng(0)
RGBA = RNG.integers(0, 256, (8, 8, 4), np.uint8)
DEEP = RNG.integers(0, 65536, (8, 8, 4), np.uint16)
DEEP[0, 0] = (255, 256, 32768, 65535)


def saved(image, kind="png", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png16(values):
    """uint16 [8, 8, C] as a PNG, which Pillow cannot write but for one channel."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    colour = {1: 0, 2: 4, 3: 2, 4: 6}[values.shape[2]]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", 8, 8, 16, colour, 0, 0, 0)
    pieces = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*piece) for piece in pieces)


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6  # a viewer turns it by 90 degrees
    return exif


RGB = Image.fromarray(RGBA[..., :3])
PALETTE = RGB.quantize(16)
FORMS = {
    "RGB": saved(RGB),
    "grey": saved(RGB.convert("L")),
    "black and white": saved(RGB.convert("1")),
    "grey + alpha": saved(RGB.convert("LA")),
    "RGBA": saved(Image.fromarray(RGBA)),
    "RGB with a transparent colour": saved(RGB, transparency=RGB.getpixel((0, 0))),
    "palette": saved(PALETTE),
    "palette of 4 bits": saved(PALETTE, bits=4),
    "palette + alpha": saved(PALETTE, transparency=bytes(range(0, 160, 10))),
    "PNG with an orientation": saved(RGB.crop((0, 0, 8, 6)), exif=turned()),
    "16-bit grey": png16(DEEP[..., :1]),
    "16-bit grey + alpha": png16(DEEP[..., :2]),
    "16-bit RGB": png16(DEEP[..., :3]),
    "16-bit RGBA": png16(DEEP),
    "JPEG": saved(RGB, "jpeg"),
    "JPEG, progressive": saved(RGB, "jpeg", progressive=True),
    "JPEG, 4:4:4": saved(RGB, "jpeg", subsampling=0),
    "JPEG, grey": saved(RGB.convert("L"), "jpeg"),
    "JPEG, CMYK": saved(RGB.convert("CMYK"), "jpeg"),
    "JPEG, stored as RGB": saved(RGB, "jpeg", keep_rgb=True),
    "JPEG with an orientation": saved(RGB.crop((0, 0, 8, 6)), "jpeg", exif=turned()),
}


@pytest.mark.filterwarnings("ignore:Palette images")
@pytest.mark.parametrize("form", FORMS)
def test_pixels_are_rgb_as_they_are_stored(form):
    encoded = FORMS[form]
    pixels = decode(encoded)
    with Image.open(io.BytesIO(encoded)) as image:
        expected = np.asarray(image.convert("RGB")).astype(int)
    if form == "16-bit grey":
        expected = np.repeat(DEEP[..., :1] >> 8, 3, axis=2).astype(int)
    elif form == "16-bit RGB":
        expected = DEEP[..., :3].astype(int) >> 8
    assert pixels.dtype == np.uint8 and pixels.shape == expected.shape
    assert np.abs(pixels - expected).max() <= (4 if "JPEG" in form else 0)


def test_all_roads_give_the_same_pixels(tmp_path: Path):
    record_file, headers = tmp_path / "val.record", {}
    with tf.io.TFRecordWriter(str(record_file)) as writer:
        for number, (form, encoded) in enumerate(FORMS.items()):
            headers[form] = read_header(encoded)
            example = make_example(encoded, headers[form], f"{number:06d}", [])
            writer.write(example)
            (tmp_path / f"{number:06d}.png").write_bytes(encoded)
            record = Record.parse(example)
            assert list(Rules(None).check(record)) == [], form
            np.testing.assert_array_equal(sheets._pixels(record), decode(encoded), form)
    pixels = [decode(encoded) for encoded in FORMS.values()]
    expected = [preprocess(tf.constant(image), CONFIG)[0].numpy() for image in pixels]
    for named in (tmp_path, record_file):
        batches = image_batches(find_images(str(named)), CONFIG, 1)
        for form, image, inputs, (batch, (original,)) in zip(
            FORMS, pixels, expected, batches, strict=True
        ):
            np.testing.assert_array_equal(original, image, form)
            np.testing.assert_array_equal(batch["images"][0], inputs, form)
    for training in (False, True):
        pipeline = InputPipeline(
            [record_file],
            CONFIG,
            batch_size=1,
            training=training,
            num_classes=1,
            max_instances=1,
        )
        for batch in pipeline.batches():
            number = int(batch["source_id"][0])
            form = list(FORMS)[number]
            np.testing.assert_array_equal(batch["images"][0], expected[number], form)
            size = [headers[form].height, headers[form].width]
            assert batch["original_hw"].tolist() == [size], form


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.sampled_from(sorted(FORMS)), st.data())
def test_what_the_inspector_passes_has_pixels(form, data):
    """Pillow passed some damage that training then died of."""
    encoded = bytearray(FORMS[form])
    for _ in range(data.draw(st.integers(1, 3))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    encoded = bytes(encoded)
    try:
        header = read_header(encoded)
        pixels = decode(encoded)
    except ImageError as error:
        assert "\n" not in str(error)
    else:
        assert pixels.shape == (header.height, header.width, 3)


def test_no_other_module_decodes(root: Path):
    folders = ("efficientdet", "benchmarks")
    files = [
        *root.glob("*.py"),
        *(path for name in folders for path in (root / name).rglob("*.py")),
    ]
    decoders = re.compile(r"decode_(image|png|jpe?g|and_crop)\w*\(|Image\.open\(|\bimread\(")
    found = [path for path in files if decoders.search(path.read_text(encoding="utf-8"))]
    found = [path for path in found if "campaign" not in path.parts]  # it makes odd images
    assert [str(path.relative_to(root)) for path in found] == ["efficientdet/dataset/image.py"]
