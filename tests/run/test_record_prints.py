"""A run says when its records are not the files any more that it began with."""

import dataclasses
import json
from pathlib import Path

import pytest

from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.manifest import Manifest, Shard
from efficientdet.input.record_set import RecordSet
from efficientdet.run import record_prints

MAP = LabelMap((("Car",),))


def records(folder: Path, content: bytes = b"0123", *, digest: str | None = None) -> RecordSet:
    """train.record; with a manifest where a digest is given."""
    file = folder / "train.record"
    file.write_bytes(content)
    shards = [Shard(file.name, 3, len(content), digest or "")]
    manifest = Manifest(3, MAP, 5, {}, shards=shards) if digest else None
    return RecordSet([file], MAP, 3, 5, manifest)


BEFORE = "aaaaaaaabb"


@pytest.mark.parametrize(
    ("before", "content", "after", "told"),
    [
        (BEFORE, b"0123", BEFORE, None),
        (None, b"0123", None, None),
        (None, b"0123", BEFORE, None),  # a manifest came; name and size are the same
        (BEFORE, b"0123", None, None),
        (BEFORE, b"0123", "cccccccccc", "there was train.record (4 bytes, SHA-256 aaaaaaaa), now "
         "there is train.record (4 bytes, SHA-256 cccccccc); training goes on with what is there"),
        (BEFORE, b"01234", "cccccccccc", "(5 bytes, SHA-256 cccccccc)"),
        (None, b"01234", None, "there was train.record (4 bytes), now there is train.record (5 "),
        (BEFORE, b"01234", None, "now there is train.record (5 bytes); training"),
    ],
)  # fmt: skip
def test_a_change_is_told_in_a_line(
    tmp_path: Path, said: list[str], before: str | None, content: bytes, after: str | None,
    told: str | None,
) -> None:  # fmt: skip
    record_prints.write(tmp_path, {"train": records(tmp_path, digest=before), "val": None})
    record_prints.tell_changes(tmp_path, {"train": records(tmp_path, content, digest=after)})
    assert len(said) == bool(told)
    if told:
        assert said[0].startswith("warning: the train records changed since the run's last start: ")
        assert told in said[0] and "\n" not in said[0]


def test_a_file_moved_or_renamed_is_the_same_by_its_bytes(tmp_path: Path, said: list[str]) -> None:
    first = records(tmp_path, digest=BEFORE)
    record_prints.write(tmp_path, {"train": first})
    (tmp_path / "b").mkdir()
    moved = records(tmp_path / "b", digest=BEFORE)
    renamed = moved.files[0].rename(tmp_path / "b" / "other.record")
    shards = [Shard(renamed.name, 3, 4, BEFORE)]
    moved = dataclasses.replace(
        moved, files=[renamed], manifest=Manifest(3, MAP, 5, {}, shards=shards)
    )
    record_prints.tell_changes(tmp_path, {"train": moved})
    assert not said


def test_more_or_fewer_files_are_a_change(tmp_path: Path, said: list[str]) -> None:
    one = records(tmp_path)
    two = dataclasses.replace(one, files=[*one.files, *one.files])
    for before, now in ((one, two), (two, one)):
        record_prints.write(tmp_path, {"val": before})
        record_prints.tell_changes(tmp_path, {"val": now})
    assert "there was none, now there is train.record (4 bytes); what was scored before" in said[0]
    assert "there was train.record (4 bytes), now there is none; what was scored before" in said[1]


def test_what_a_start_does_not_use_is_remembered(tmp_path: Path, said: list[str]) -> None:
    train, val = records(tmp_path), records(tmp_path, digest=BEFORE)
    record_prints.write(tmp_path, {"train": train, "val": val})
    record_prints.write(tmp_path, {"train": train, "val": None})
    stored = json.loads((tmp_path / "records.json").read_text())
    assert stored["val"] == [{"name": "train.record", "num_bytes": 4, "sha256": BEFORE}]
    record_prints.tell_changes(tmp_path, {"train": train, "val": None})
    record_prints.tell_changes(tmp_path / "older", {"train": train, "val": val})
    assert not said


@pytest.mark.parametrize(
    "text", ["", "5", "[]", "[" * 9999, '{"train": 5}', '{"train": [{}]}', '{"train": [[1]]}',
             '{"train": [{"name": 1, "num_bytes": 2, "sha256": ""}]}', "\0"],
)  # fmt: skip
def test_a_spoilt_file_is_one_line_and_no_hindrance(
    tmp_path: Path, said: list[str], text: str
) -> None:
    (tmp_path / "records.json").write_text(text)
    sets = {"train": records(tmp_path)}
    record_prints.tell_changes(tmp_path, sets)
    assert said == [
        f"warning: {tmp_path}/records.json: not readable, so the records are not compared with it"
    ]
    record_prints.write(tmp_path, sets)
    record_prints.tell_changes(tmp_path, sets)
    assert len(said) == 1
