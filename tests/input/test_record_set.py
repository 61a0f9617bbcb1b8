"""What a run learns about its records: from the manifest, or from the records themselves."""

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf
from PIL import Image

from efficientdet.config import Config
from efficientdet.dataset.example import Annotation, make_example
from efficientdet.dataset.image import ImageHeader
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.manifest import Manifest, Shard
from efficientdet.dataset.tfrecord import shard_paths
from efficientdet.errors import UserError
from efficientdet.input.record_set import RecordSet
from efficientdet.run.directory import RunDirectory

MAP = LabelMap((("Car",), ("Cyclist",)))


def write(
    path: Path, counts: list[int], label_map: LabelMap | None = MAP, class_id: int = 1
) -> None:
    """A record with `counts` objects on its images, and a manifest if there is a label map."""
    png = io.BytesIO()
    Image.new("RGB", (8, 6)).save(png, "PNG")
    header = ImageHeader("png", 6, 8)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number, count in enumerate(counts):
            box = (0.0, 0.0, 4.0, 3.0)
            objects = [Annotation(box, class_id, "Car", is_crowd=class_id == 0)] * count
            writer.write(make_example(png.getvalue(), header, f"{number:06d}", objects))
    if label_map:
        shards = [Shard(path.name, len(counts), path.stat().st_size, "")]
        Manifest(len(counts), label_map, max(counts), {}, shards=shards).write(path)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_manifest_tells(folder: Path, said) -> None:
    write(folder / "train.record", [2, 3, 1])
    records = RecordSet.open("train.record")
    assert (records.num_examples, records.max_objects, records.label_map) == (3, 3, MAP)
    assert records.files == [Path("train.record")] and records.manifest is not None
    assert not said


def test_several_records_are_merged(folder: Path) -> None:
    write(folder / "a.record", [1, 1])
    write(folder / "b.record", [7])
    for pattern in ("a.record,b.record", "*.record"):
        records = RecordSet.open(pattern)
        assert (records.num_examples, records.max_objects) == (3, 7)
        assert [path.name for path in records.files] == ["a.record", "b.record"]


@pytest.mark.parametrize("key", ["is_crowd", "class/text", "bbox/ymax"])
def test_lists_of_unequal_length_are_told_by_name(folder: Path, key: str) -> None:
    write(folder / "train.record", [2], label_map=None)
    (raw,) = tf.data.TFRecordDataset("train.record").as_numpy_iterator()
    example = tf.train.Example.FromString(raw)
    feature = example.features.feature[f"image/object/{key}"]
    values = getattr(feature, feature.WhichOneof("kind")).value
    values.append(values[0])
    with tf.io.TFRecordWriter("train.record") as writer:
        writer.write(example.SerializeToString())
    with pytest.raises(UserError, match=f"image/object/{key} and image/object/class/label are not"):
        RecordSet.open("train.record")


def test_without_a_manifest_the_records_are_counted(folder: Path, said) -> None:
    write(folder / "other.record", [0, 4], label_map=None)
    records = RecordSet.open("other.record")
    assert (records.num_examples, records.max_objects, records.manifest) == (2, 4, None)
    assert records.label_map == LabelMap.kitti()
    assert said == [
        "other.record: no manifest; class ids are read as KITTI's eight classes (name yours with "
        "--label_map_path)"
    ]
    (folder / "map.txt").write_text("1: Car\n2: Cyclist\n")
    assert RecordSet.open("other.record", "map.txt").label_map == MAP
    assert said[1] == "other.record: no manifest; class ids are read as map.txt"


def test_without_a_manifest_the_run_names_the_ids(folder: Path, said) -> None:
    write(folder / "other.record", [2], label_map=None)
    assert RecordSet.open("other.record", of_run=MAP).label_map == MAP
    assert said == [
        "other.record: no manifest; class ids are read as the run's: 1: Car, 2: Cyclist"
    ]
    (folder / "map.txt").write_text("1: Car\n")
    assert RecordSet.open("other.record", "map.txt", of_run=MAP).label_map.num_classes == 1
    write(folder / "own.record", [2], label_map=LabelMap((("Car",),)))
    assert RecordSet.open("own.record", of_run=MAP).label_map.num_classes == 1


@pytest.mark.parametrize("label_map", ["1: Cyclist\n2: Car\n", "1: Car\n"])
def test_names_in_the_records_are_held_against_the_label_map(folder: Path, label_map: str) -> None:
    write(folder / "other.record", [1, 2], label_map=None, class_id=2)
    (folder / "map.txt").write_text(label_map)
    if "2: Car" in label_map:
        assert RecordSet.open("other.record", "map.txt").num_examples == 2
        label_map = "1: Car\n2: Cyclist\n"
        (folder / "map.txt").write_text(label_map)
    with pytest.raises(UserError) as caught:
        RecordSet.open("other.record", "map.txt")
    assert "other.record: 000000 has a Car of class id 2, but the label map says 1: Car" in str(
        caught.value
    )


COMMANDS = """
from absl import flags
from efficientdet import main
from efficientdet.console import log_to_console
from efficientdet.errors import UserError

log_to_console()

for words in {words!r}:
    flags.FLAGS.unparse_flags()
    flags.FLAGS(["main.py", *words])
    try:
        main.main()
    except UserError as error:
        print("error:", error)
"""


def test_a_run_reads_validation_records_without_a_manifest_by_its_own_map(folder: Path) -> None:
    """Both commands get as far as what is wrong with them on purpose."""
    write(folder / "train.record", [1])
    write(folder / "val.record", [1], label_map=None)
    config = Config.for_model("efficientdet-d0").override({"num_classes": 2})
    RunDirectory(folder / "run").write(config, MAP)
    for suffix in ("index", "data-00000-of-00001"):
        (folder / "run" / f"model.ckpt-1.{suffix}").write_bytes(b"")
    words = [
        ["--mode=eval", "--model_dir=run", "--val_file_pattern=val.record"],
        ["--mode=train_and_eval", "--model_dir=new", "--train_file_pattern=train.record",
         "--val_file_pattern=val.record", "--hparams=num_classes=7"],
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS.format(words=words)],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert [line.partition(": not ")[0] for line in lines if "error" in line] == [
        "error: run/model.ckpt-1",
        "error: num_classes=7, but the records have 2 classes (1: Car, 2: Cyclist); leave it out, "
        "it is read from the records",
    ], done
    assert sum("class ids are read as the run's: 1: Car, 2: Cyclist" in x for x in lines) == 2


def test_a_label_map_that_says_what_the_manifest_says_is_fine(folder: Path) -> None:
    write(folder / "train.record", [1])
    MAP.write(folder / "map.txt")
    assert RecordSet.open("train.record", "map.txt").label_map == MAP


@pytest.mark.parametrize(
    ("pattern", "label_map", "named"),
    [
        ("", None, "empty pattern: no such record file"),
        ("none*.record", None, "none*.record: no such record file (read from "),
        ("train.record,val.record", None, "val.record: no such record file"),
        ("train.record", "none.txt", "none.txt: No such file or directory; expected a label map"),
        (
            "train.record",
            "map.txt",
            "train.record was made with the classes 1: Car, 2: Cyclist, but map.txt says 1: Car, "
            "2: Tram",
        ),
        ("cut.record", None, "cut.record: not a TFRecord file, or cut off at byte 0"),
        ("empty.record", None, "empty.record: no record inside"),
        ("damaged.record", None, "damaged.record.manifest.json: damaged manifest"),
    ],
)
def test_what_is_wrong_is_named(folder: Path, pattern: str, label_map: str, named: str) -> None:
    write(folder / "train.record", [1])
    write(folder / "damaged.record", [1])
    (folder / "damaged.record.manifest.json").write_text('{"num_examples": 1}')
    (folder / "cut.record").write_bytes((folder / "train.record").read_bytes()[:-5])
    (folder / "empty.record").touch()
    (folder / "map.txt").write_text("1: Car\n2: Tram\n")
    with pytest.raises(UserError) as caught:
        RecordSet.open(pattern, label_map)
    assert named in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("label_map", [MAP, None])
def test_too_many_objects_name_the_frame_and_the_flag(folder: Path, label_map) -> None:
    write(folder / "train.record", [1, 3, 2], label_map)
    records = RecordSet.open("train.record")
    with pytest.raises(UserError, match=r"record 1 \(source_id 000001\) has 3 objects") as caught:
        records.require_at_most(2)
    (advice,) = re.findall(r"--hparams=max_instances_per_image=(\d+)", str(caught.value))
    records.require_at_most(int(advice))


def test_ignore_regions_do_not_count_as_objects(folder: Path) -> None:
    write(folder / "train.record", [2], class_id=0)
    RecordSet.open("train.record").require_at_most(1)


# --- files against their manifest ---


def cut_after(path: Path, count: int) -> None:
    """Leaves the first `count` records, whole."""
    kept = list(tf.data.TFRecordDataset(str(path)).take(count).as_numpy_iterator())
    with tf.io.TFRecordWriter(str(path)) as writer:
        for one in kept:
            writer.write(one)


def shards(folder: Path, name: str, counts: list[int]) -> list[Path]:
    """A record of one image in each shard, with its manifest."""
    files = shard_paths(folder / name, len(counts))
    for path, count in zip(files, counts, strict=True):
        write(path, [count], label_map=None)
    told = [Shard(path.name, 1, path.stat().st_size, "") for path in files]
    Manifest(len(counts), MAP, max(counts), {}, shards=told).write(folder / name)
    return files


def test_a_record_cut_at_a_record_s_end_is_refused(folder: Path) -> None:
    """TensorFlow reads it without a word: half of the images would be judged."""
    write(folder / "val.record", [1] * 6)
    whole = (folder / "val.record").stat().st_size
    cut_after(folder / "val.record", 3)
    size = (folder / "val.record").stat().st_size
    for pattern in ("val.record", "val*", str(folder / "val.record")):
        with pytest.raises(UserError) as caught:
            RecordSet.open(pattern)
        text = str(caught.value)
        assert f"val.record: {size:,} bytes, but val.record.manifest.json says {whole:,}" in text
        assert "create_kitti_tf_record.py with --overwrite" in text and "\n" not in text


@pytest.mark.parametrize("pattern", ["a.record", "a.record-*", "b.record,a.record-*", "*.record*"])
def test_each_shard_is_held_against_the_manifest(folder: Path, pattern: str) -> None:
    files = shards(folder, "a.record", [1, 2, 1])
    write(folder / "b.record", [1])
    assert RecordSet.open(pattern).num_examples == 3 + ("b" in pattern or pattern[0] == "*")
    write(files[1], [5], label_map=None)
    with pytest.raises(UserError, match="a.record-00001-of-00003: .* bytes, but a.record.manifest"):
        RecordSet.open(pattern)


def test_some_of_the_shards_are_told_as_such(folder: Path, said) -> None:
    first, second, _ = shards(folder, "a.record", [1, 2, 1])
    assert RecordSet.open(f"{first},{second}").num_examples == 2
    assert said == [f"warning: {first},{second} names 2 of the 3 files of a.record: 2 of 3 images"]


def test_what_is_left_of_another_conversion_is_refused(folder: Path) -> None:
    """`a.record` from before it was written in shards."""
    shards(folder, "a.record", [1, 2])
    write(folder / "a.record", [1], label_map=None)
    for pattern in ("a.record", "a.record*"):
        with pytest.raises(UserError, match="a.record: not one of the 2 files that a.record.manif"):
            RecordSet.open(pattern)


@pytest.mark.parametrize("counts", [[1], [1, 2]])
def test_an_unfinished_conversion_is_told(folder: Path, counts: list[int]) -> None:
    for path in shards(folder, "a.record", counts)[-1:]:
        path.unlink()
    with pytest.raises(UserError, match="a.record.*unfinished conversion") as caught:
        RecordSet.open("a.record")
    assert "run the same command of create_kitti_tf_record.py again" in str(caught.value)


def test_a_record_renamed_with_its_manifest_is_the_same(folder: Path) -> None:
    shards(folder, "a.record", [1, 2])
    for path in folder.iterdir():
        path.rename(path.with_name(path.name.replace("a.record", "b.record")))
    assert RecordSet.open("b.record").num_examples == 2
