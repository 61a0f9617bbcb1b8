"""What a run learns about its records: from the manifest, or from the records themselves."""

import io
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
    header = ImageHeader("png", 8, 6)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number, count in enumerate(counts):
            objects = [Annotation((0.0, 0.0, 4.0, 3.0), class_id, "Car")] * count
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
    assert [line.partition(": no checkpoint")[0] for line in lines if "error" in line] == [
        "error: run",
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
