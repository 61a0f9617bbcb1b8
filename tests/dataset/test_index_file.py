"""The index says what the record says, is taken for no other's, and a start reads little else."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from efficientdet.config import Config
from efficientdet.dataset.convert import convert
from efficientdet.dataset.example import Record, without_pixels
from efficientdet.dataset.index_file import index_path, read_frames, read_index
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.options import Options
from efficientdet.dataset.selection import select_frames
from efficientdet.dataset.tfrecord import expand_pattern, read_records, write_record
from efficientdet.errors import UserError
from efficientdet.inference.truths import read_truths
from efficientdet.input.pipeline import InputPipeline
from efficientdet.input.record_index import RecordIndex
from efficientdet.input.record_set import RecordSet
from efficientdet.inspection.checks import check_records
from efficientdet.training import preflight

KITTI = LabelMap.kitti()
CAR = "Car 0.00 0 -1.57 10.00 8.00 50.00 30.00 1.5 1.6 3.9 1.0 1.7 20.0 0.01"


def run(root: Path, num_shards: int = 1, name: str = "a.record", **how) -> list[Path]:
    options = Options(subset="all", num_shards=num_shards)
    convert(select_frames(root, options), root / name, KITTI, options, **how)
    return expand_pattern(root / name)


def told(files: list[Path]) -> list:
    """What every reader makes of the records, as values that compare."""
    report = check_records(files, decode_images=False, indexed=True, max_instances=2)
    statistics = [(one.statistics.counts(), one.places, one.num_learnable) for one in report.sets]
    index = RecordIndex(files)
    objects = [
        (one.source_id, one.boxes.tobytes(), one.boxes.shape, one.classes.tobytes(), one.types)
        for one in index.objects()
    ]
    places = [place for file in files for place, _ in read_frames(file)]
    records = [index.read(i).numpy() for i in range(len(index))]
    truths = [read_truths(files, KITTI, num_images=n) for n in (None, 1)]
    return [report.problems, statistics, report.class_texts, objects, places, records, truths]


def same_bytes_more(record: Path) -> None:
    """Changes a letter of the last label line's text; all checksums are right."""
    examples = [data.replace(b"20.0 0.01", b"21.0 0.01") for _, data in read_records(record)]
    with record.open("wb") as file:
        for example in examples:
            write_record(file, example)


lines = st.builds(
    lambda name, truncated, occluded, left, top: (
        f"{name} {truncated:.2f} {occluded} -1.57 {left:.2f} {top:.2f} "
        f"{left + 20:.2f} {top + 9.5:.2f} 1.5 1.6 3.9 1.0 1.7 20.0 0.01"
    ),
    st.sampled_from(["Car", "Pedestrian", "DontCare", "Misc"]),
    st.floats(0, 1),
    st.integers(0, 3),
    st.floats(0, 75),
    st.floats(0, 30),
)


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.lists(lines, max_size=4), min_size=3, max_size=5), st.integers(1, 3))
def test_every_reader_says_the_same_with_and_without(tmp_path_factory, frames, num_shards):
    root = tmp_path_factory.mktemp("kitti")
    for folder in ("image_2", "label_2"):
        (root / "training" / folder).mkdir(parents=True)
    for number, objects in enumerate(frames):
        name = root / "training" / "image_2" / f"{number:06d}.png"
        Image.new("RGB", (100, 40), (number, 9, 9)).save(name)
        label = root / "training" / "label_2" / f"{number:06d}.txt"
        label.write_text("".join(f"{line}\n" for line in objects))
    files = run(root, num_shards)
    for path in files:
        found = [(place, Record.parse(d, has_pixels=False)) for place, d in read_index(path)]
        for (place, light), (where, data) in zip(found, read_records(path), strict=True):
            whole = dataclasses.replace(Record.parse(data), encoded=b"", has_pixels=False)
            assert place == where and repr(light) == repr(whole)
            assert light.image_header() == Record.parse(data).image_header()
    with_index = told(files)
    index_path(files[0]).unlink()
    assert read_index(files[0]) is None and told(files) == with_index


def test_no_flipped_byte_and_no_cut_goes_unnoticed(make_kitti, said):
    (record,) = run(make_kitti())
    index = index_path(record)
    whole = index.read_bytes()
    expected = told([record])
    for position in [*range(60), *range(60, len(whole), 17)]:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        index.write_bytes(damaged)
        assert read_index(record) is None, position
        index.write_bytes(whole[:position])
        assert read_index(record) is None, position
    assert told([record]) == expected
    assert any("a.record.index: not read, the record is instead" in line for line in said)


@pytest.mark.parametrize("num_shards", [1, 2])
def test_an_index_of_other_bytes_is_not_taken(make_kitti, num_shards, said):
    root = make_kitti()
    files = run(root, num_shards)
    same_bytes_more(files[0])  # the same sizes, another line
    assert read_index(files[0]) is None
    text = repr(read_truths(files, KITTI))
    assert "21.0 0.01" in text and "20.0 0.01" not in text.split("000001")[0]
    assert len(said) == 1 and "is not the one it was made of" in said[0]


def test_an_index_of_another_record_and_of_other_shards(make_kitti):
    root = make_kitti()
    (record,) = run(root)
    others = run(root, 2, "b.record")
    shutil.copy(index_path(others[0]), index_path(record))
    assert read_index(record) is None
    longer = make_kitti({f"00000{i}": [CAR] for i in range(5)}, root="longer")
    shutil.copy(index_path(run(longer)[0]), index_path(record))
    assert read_index(record) is None
    shorter = make_kitti({"000000": [CAR]}, root="shorter")
    shutil.copy(index_path(run(shorter)[0]), index_path(record))
    assert read_index(record) is None and read_index(record, 1) is None


def test_a_record_that_was_moved_with_its_index_keeps_it(make_kitti):
    files = run(make_kitti(), 2)
    for path in [*files, index_path(files[0])]:
        shutil.copy(path, path.with_name(path.name.replace("a.record", "새 기록.record")))
    moved = expand_pattern(files[0].parent / "새 기록.record")
    assert [len(read_index(path)) for path in moved] == [2, 2]


def test_the_index_is_no_record(make_kitti):
    root = make_kitti()
    assert run(root) == expand_pattern(str(root / "a.record*")) == [root / "a.record"]


def test_a_record_of_an_older_converter_gets_its_index_from_the_same_command(make_kitti):
    root = make_kitti()
    files = run(root, 2)
    index = index_path(files[0])
    whole = index.read_bytes()
    index.unlink()
    assert run(root, 2) == files and index.read_bytes() == whole
    for path in files:
        frames = [without_pixels(data) for _, data in read_records(path)]
        assert frames == [data for _, data in read_index(path)]


def test_a_damaged_record_is_refused_by_the_inspector_and_when_it_is_read(make_kitti):
    root = make_kitti()
    (record,) = run(root)
    data = bytearray(record.read_bytes())
    data[80] ^= 1
    record.write_bytes(data)
    assert not check_records([record], decode_images=False).ok
    assert check_records([record], decode_images=False, indexed=True).ok  # a start looks no closer
    index = RecordIndex([record])
    with pytest.raises(UserError, match="inspect_tfrecord"), index.named_errors():
        index.read(0)


# --- what is read ---


def bytes_read(work) -> int:
    counter = Path("/proc/self/io")
    if not counter.exists():
        pytest.skip("counts bytes by Linux's /proc")

    def read() -> int:
        return int(counter.read_text().split()[1])

    work()  # imports, once
    before = read()
    work()
    return read() - before


@pytest.fixture
def noise(tmp_path) -> Path:
    """Forty frames of noise, 140 kB each."""
    rng = np.random.default_rng(0)
    for folder in ("image_2", "label_2"):
        (tmp_path / "training" / folder).mkdir(parents=True)
    for number in range(40):
        pixels = rng.integers(0, 256, (170, 280, 3), np.uint8)
        image = tmp_path / "training" / "image_2" / f"{number:06d}.png"
        Image.fromarray(pixels).save(image, compress_level=0)
        (tmp_path / "training" / "label_2" / f"{number:06d}.txt").write_text(f"{CAR}\n")
    return run(tmp_path)[0]


def start(record: Path) -> InputPipeline:
    """What main.py does with its records before the first step."""
    balanced = {"repeat_threshold": 0.5, "copy_paste_prob": 0.5, "copy_paste_classes": ["Car"]}
    config = Config.for_model("efficientdet-d0").override({"image_size": "128x128"} | balanced)
    records = RecordSet.open(str(record))
    preflight.check_records(records, records, config=config)
    read_truths(records.files, records.label_map)
    return InputPipeline(
        records.files, config, batch_size=2, training=True, num_classes=8, max_instances=8
    )


def test_a_start_reads_little_of_the_record(noise):
    size = noise.stat().st_size
    assert bytes_read(lambda: start(noise)) < 0.05 * size
    index_path(noise).unlink()
    assert bytes_read(lambda: start(noise)) > 2 * size


def test_ten_images_are_ten(noise):
    """Of a record without an index, too; the rows that fill the batch up read nothing new."""
    config = Config.for_model("efficientdet-d0").override({"image_size": "128x128"})
    pipeline = InputPipeline(
        [noise],
        config,
        batch_size=2,
        training=False,
        num_classes=8,
        max_instances=8,
        examples_per_epoch=3,
    )
    of_one = noise.stat().st_size / 40
    batches = list(pipeline.batches())
    assert [batch["valid"].tolist() for batch in batches] == [[True, True], [True, False]]
    assert bytes_read(lambda: list(pipeline.batches())) < 6 * of_one
    index_path(noise).unlink()
    assert bytes_read(lambda: read_truths([noise], KITTI, num_images=3)) < 4 * of_one
