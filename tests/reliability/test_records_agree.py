"""Records damaged at random: what the inspector passes, training and evaluation must read."""

import io
import re
import struct
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from efficientdet.config import Config
from efficientdet.dataset.example import Annotation, Record, make_example, parse_example
from efficientdet.dataset.file_names import file_name
from efficientdet.dataset.image import read_header
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.tfrecord import Place
from efficientdet.errors import UserError
from efficientdet.evaluation.evaluate import evaluate
from efficientdet.evaluation.frames import FrameDetections, FrameTruth, box_array
from efficientdet.evaluation.results import write_kitti
from efficientdet.inference import truths
from efficientdet.inference.truths import read_truths
from efficientdet.input.images import find_images, image_batches
from efficientdet.input.pipeline import InputPipeline
from efficientdet.input.record_index import RecordIndex
from efficientdet.inspection.checks import DUPLICATE, SAME_FILE, Problem, check_records

NUM_EXAMPLES = 5000
MAP = LabelMap((("Car", "Van"), ("Pedestrian",), ("Cyclist",)))
CONFIG = Config().override({"image_size": "128x128", "num_classes": MAP.num_classes})
MAX_OBJECTS = 8

Features = dict[str, tf.train.Feature]
BOX = "image/object/bbox/"
LINE = "{} 0.00 0 -1.57 {:.2f} {:.2f} {:.2f} {:.2f} 1.5 1.6 3.9 1.0 1.7 20.0 0.01"
FLOATS = (float("nan"), float("inf"), -float("inf"), 1e308, -1e-3, -7.0, 1.5, 0.0, 1e-40)
INTS = (0, -1, 2, 4, 2**31, 2**32 + 1, 2**62, -(2**63))
TEXTS = (b"", b"a\0b", b"\xff\xfe", b"x" * 10_000_000, b"../x", b"/", b"C:\\x", b"a\nb",
         b"drive0/7", "보행자".encode(), b" ", b".", b"\xed\xa0\x80")  # fmt: skip


def encoded(kind: str = "PNG", size: tuple[int, int] = (8, 8), mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, kind)
    return buffer.getvalue()


IMAGES = {
    kind: encoded(*how)
    for kind, how in {
        "png": (), "jpeg": ("JPEG",), "gif": ("GIF",), "bmp": ("BMP",), "webp": ("WEBP",),
        "grey": ("PNG", (8, 8), "L"), "palette": ("PNG", (8, 8), "P"),
        "rgba": ("PNG", (8, 8), "RGBA"), "deep": ("PNG", (8, 8), "I;16"),
        "bit": ("PNG", (8, 8), "1"), "cmyk": ("JPEG", (8, 8), "CMYK"),
        "dot": ("PNG", (1, 1)), "wide": ("PNG", (900, 1)),
    }.items()
}  # fmt: skip


def sound(rng: np.random.Generator, source_id: str) -> bytes:
    """An example as the converter writes it, of up to three objects and a region."""
    image = IMAGES[rng.choice(["png", "jpeg"])]
    objects = []
    for label in rng.integers(0, 4, rng.integers(0, 4)).tolist():
        left, top = rng.integers(0, 4, 2).tolist()
        box = (left, top, left + rng.integers(1, 4), top + rng.integers(1, 4))
        name = ("DontCare", "Car", "Pedestrian", "Cyclist")[label]
        line = LINE.format(name, *box) if rng.random() < 0.7 else ""
        objects.append(Annotation(box, label, name, is_crowd=label == 0, line=line))
    return make_example(image, read_header(image), source_id, objects)


# --- the ways in which an example is damaged ---


def flip_bytes(rng: np.random.Generator, data: bytes) -> bytes:
    damaged = bytearray(data)
    for place in rng.integers(0, len(data), rng.integers(1, 4)).tolist():
        damaged[place] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def cut(rng: np.random.Generator, data: bytes) -> bytes:
    place = int(rng.integers(len(data)))
    return data[:place] + data[place + int(rng.integers(1, 9)) :]


def double(rng: np.random.Generator, data: bytes) -> bytes:
    """Protobuf merges messages that follow one another."""
    return data + sound(rng, str(rng.integers(10_000, 99_999)))


def of_features(change: Callable[[np.random.Generator, Features], None]):
    """A damage to the features of an example, as one to its bytes."""

    def damage(rng: np.random.Generator, data: bytes) -> bytes:
        example = tf.train.Example.FromString(data)
        change(rng, example.features.feature)
        return example.SerializeToString()

    damage.__name__ = change.__name__
    return damage


def any_key(rng: np.random.Generator, features: Features, part: str = "") -> str:
    return str(rng.choice(sorted(key for key in features if part in key)))


@of_features
def wrong_type(rng: np.random.Generator, features: Features) -> None:
    feature = features[any_key(rng, features)]
    feature.Clear()
    count = int(rng.integers(0, 4))
    kinds = [
        lambda: feature.bytes_list.value.extend([b"1"] * count),
        lambda: feature.float_list.value.extend([1.0] * count),
        lambda: feature.int64_list.value.extend([1] * count),
        lambda: feature.bytes_list.SetInParent(),
        lambda: feature.int64_list.SetInParent(),
        lambda: None,
    ]
    kinds[rng.integers(len(kinds))]()


@of_features
def wrong_length(rng: np.random.Generator, features: Features) -> None:
    key = any_key(rng, features)
    kind = features[key].WhichOneof("kind")
    if kind is None or rng.random() < 0.2:
        del features[key]
        return
    values = getattr(features[key], kind).value
    if len(values) and rng.random() < 0.5:
        del values[int(rng.integers(len(values))) :]
    else:
        values.extend([b"Car" if kind == "bytes_list" else 1] * int(rng.integers(1, 4)))


@of_features
def odd_box(rng: np.random.Generator, features: Features) -> None:
    values = features[any_key(rng, features, BOX)].float_list.value
    if len(values):
        bits = struct.unpack("f", rng.bytes(4))[0]
        values[int(rng.integers(len(values)))] = rng.choice([*FLOATS, bits])


@of_features
def odd_number(rng: np.random.Generator, features: Features) -> None:
    keys = ("image/object/class/label", "image/object/is_crowd", "image/height", "image/width",
            "image/object/occluded", "image/object/difficult")  # fmt: skip
    values = features[str(rng.choice(keys))].int64_list.value
    if len(values):
        values[int(rng.integers(len(values)))] = int(rng.choice(INTS))


@of_features
def odd_size(rng: np.random.Generator, features: Features) -> None:
    for key in ("image/height", "image/width"):
        features[key].int64_list.value[:] = [int(rng.choice([0, 7, 8, 8, 9, 2**40]))]


@of_features
def odd_text(rng: np.random.Generator, features: Features) -> None:
    keys = ("image/source_id", "image/source_id", "image/object/class/text", "image/format",
            "image/filename", "image/key/sha256", "image/object/kitti/label_line")  # fmt: skip
    values = features[str(rng.choice(keys))].bytes_list.value
    if len(values):
        text = TEXTS[rng.integers(len(TEXTS))]
        long = len(text) > 1000 and rng.random() < 0.95  # a few are enough
        values[int(rng.integers(len(values)))] = text[:300] if long else text


@of_features
def odd_line(rng: np.random.Generator, features: Features) -> None:
    values = features["image/object/kitti/label_line"].bytes_list.value
    if not len(values):
        return
    row = int(rng.integers(len(values)))
    columns = (values[row].decode() or LINE.format("Car", 1, 1, 3, 3)).split()
    odd = ["nan", "inf", "1e308", "-1", "1e999", "x", "", "7" * 5000, "1_0", "9" * 30, "\0"]
    columns[int(rng.integers(len(columns)))] = str(rng.choice(odd))
    values[row] = " ".join(columns[: int(rng.integers(13, 17))]).encode()


@of_features
def odd_image(rng: np.random.Generator, features: Features) -> None:
    data = IMAGES[str(rng.choice(sorted(IMAGES)))]
    ways = [
        lambda: data,
        lambda: data[: int(rng.integers(len(data)))],
        lambda: flip_bytes(rng, data),
        lambda: cut(rng, data),
        lambda: b"",
        lambda: data + rng.bytes(9),
        # Another size in the header of a PNG: none, or more than any memory holds.
        lambda: (
            data[:16] + struct.pack(">II", *rng.choice([0, 8, 2**16, 2**31 - 1], 2)) + data[24:]
        ),
    ]
    features["image/encoded"].bytes_list.value[:] = [ways[rng.integers(len(ways))]()]
    for key in ("image/height", "image/width", "image/format", "image/key/sha256"):
        del features[key]  # or every one would contradict the image


DAMAGES = (flip_bytes, cut, double, wrong_type, wrong_length, odd_box, odd_number, odd_size,
           odd_text, odd_line, odd_image)  # fmt: skip


def mutated(rng: np.random.Generator, count: int) -> Iterator[tuple[str, bytes]]:
    """(what was done, example); in turns one damage, one in four times two."""
    for number in range(count):
        damages = [DAMAGES[number % len(DAMAGES)]]
        damages += [DAMAGES[rng.integers(len(DAMAGES))]] if rng.random() < 0.25 else []
        data = sound(rng, f"{number:06d}")
        for damage in damages:
            try:
                data = damage(rng, data)
            except Exception:  # noqa: S112 (the second damage finds no example to change)
                continue
        yield "+".join(damage.__name__ for damage in damages), data


def write(path, examples) -> None:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for one in examples:
            writer.write(one)


@pytest.fixture(scope="module")
def damaged() -> list[tuple[str, bytes]]:
    return list(mutated(np.random.default_rng(12), NUM_EXAMPLES))


@pytest.fixture(scope="module")
def record(damaged, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("damaged") / "all.record"
    write(path, (data for _, data in damaged))
    return path


def refused(record: Path, **how: bool) -> dict[int, list[Problem]]:
    """The inspector's problems by record."""
    found = defaultdict(list)
    for problem in check_records([record], MAP, **how).problems:
        if place := re.match(r"all.record, record (\d+) ", problem.where):
            found[int(place[1])].append(problem)
    return found


@pytest.fixture(scope="module")
def problems(record) -> dict[int, list[Problem]]:
    return refused(record)


@pytest.fixture(scope="module")
def passed(damaged, problems) -> list[tuple[str, bytes]]:
    """What the inspector passes."""
    return [one for number, one in enumerate(damaged) if number not in problems]


@pytest.fixture
def read_one(monkeypatch) -> Callable[..., list[FrameTruth]]:
    """The evaluation's reading of one example, without a file."""

    def read(data: bytes, **how: bool) -> list[FrameTruth]:
        place = Place(Path("x.record"), 0, 12, len(data))
        frame = (place, partial(Record.parse, data))
        monkeypatch.setattr(truths, "read_frames", lambda *_: iter([frame]))
        return read_truths([Path("x.record")], MAP, **how)

    return read


def perfect(frame: FrameTruth) -> FrameDetections:
    boxes = [one.box for one in frame.objects]
    return FrameDetections(frame.source_id, boxes, np.ones(len(boxes)), np.ones(len(boxes), int))


def of_kind(examples: Iterable[tuple[str, bytes]]) -> Counter:
    return Counter(name.partition("+")[0] for name, _ in examples)


def test_every_damage_is_refused_sometimes_and_every_problem_is_a_line(damaged, problems, passed):
    for one in (problem for found in problems.values() for problem in found):
        assert "\n" not in one.where + one.what and len(one.where + one.what) < 500, one
    counts, good = of_kind(damaged), of_kind(passed)
    assert len(damaged) == NUM_EXAMPLES and NUM_EXAMPLES / 10 < len(passed) < NUM_EXAMPLES / 2
    for damage in DAMAGES:
        assert good[damage.__name__] < counts[damage.__name__], damage


def test_evaluation_refuses_what_the_preflight_refuses(damaged, record, read_one):
    """The same examples, in one line each, and not one with a traceback."""
    problems = refused(record, decode_images=False)
    for number, (how, data) in enumerate(damaged):
        try:
            read_one(data)
        except UserError as error:
            assert number in problems, (how, data, error)
            assert "\n" not in str(error) and len(str(error)) < 600, (how, data)
        else:
            kinds = {problem.kind for problem in problems.get(number, ())}
            assert kinds <= {DUPLICATE, SAME_FILE}, (how, data, kinds)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # boxes of 1e308
def test_what_is_read_without_a_preflight_can_be_judged(damaged, read_one):
    """Boxes may be nonsense there; numbers that are none, and ids of no class, may not."""
    parse = tf.function(parse_example, input_signature=[tf.TensorSpec([], tf.string)])
    frames = {}
    for how, data in damaged:
        try:
            (frame,) = read_one(data, strict=False)
        except UserError:
            continue
        assert frame.width > 0 < frame.height, (how, data)
        assert np.isfinite(box_array(frame.objects)).all(), (how, data)
        assert len(parse(data)["boxes"]) == len(frame.objects), (how, data)
        frames[frame.source_id] = frame
    evaluate([*frames.values()], map(perfect, frames.values()), MAP)


def test_what_the_inspector_passes_is_read_by_training_and_evaluation(passed, tmp_path):
    path = tmp_path / "passed.record"
    unique = {}
    for _, data in passed:
        unique.setdefault(file_name(Record.parse(data).source_id), data)
    write(path, unique.values())
    frames = read_truths([path], MAP)
    result = evaluate(frames, map(perfect, frames), MAP)
    assert all(np.isfinite(value) for value in result.metrics.values())
    write_kitti(tmp_path / "results", map(perfect, frames), MAP)
    assert len(list((tmp_path / "results").rglob("*.txt"))) == len(frames)
    assert [image.stem for image in find_images(str(path))] == [*unique]
    objects = RecordIndex([path]).objects()
    assert [one.source_id for one in objects] == [frame.source_id for frame in frames]
    assert [len(one.boxes) for one in objects] == [len(frame.objects) for frame in frames]
    for training in (True, False):
        pipeline = InputPipeline(
            [path], CONFIG, batch_size=4, training=training, num_classes=MAP.num_classes,
            max_instances=MAX_OBJECTS,
        )  # fmt: skip
        seen = []
        for batch in pipeline.batches():
            seen += [one.decode() for one in batch["source_id"][batch["valid"]]]
            assert np.isfinite(batch["images"]).all() and np.isfinite(batch["boxes"]).all()
        assert {*seen} <= {frame.source_id for frame in frames}
        assert len(seen) == (len(frames) // 4 * 4 if training else len(frames))


class Encoded:
    """Stands for an image file."""

    stem = "x"

    def __init__(self, data: bytes):
        self.read_bytes = lambda: Record.parse(data).encoded


def test_prediction_leaves_out_what_it_cannot_read(damaged):
    images = [Encoded(data) for how, data in damaged if "odd_image" in how]
    unreadable = []
    batches = image_batches(images, CONFIG, 8, unreadable.append)
    read = sum(len(originals) for _, originals in batches)
    assert read + len(unreadable) == len(images) > 100 and read and unreadable
