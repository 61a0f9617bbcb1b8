"""Manifests: written, read, merged, damaged."""

import dataclasses
import json

import pytest

from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.manifest import Manifest, Shard, manifest_path
from efficientdet.errors import UserError


def manifest(shards, **values) -> Manifest:
    facts = {
        "num_examples": sum(shard.num_examples for shard in shards),
        "label_map": LabelMap((("Car", "Van"), ("Cyclist",))),
        "max_objects_per_image": 5,
        "class_counts": {"Car": 10, "Van": 2, "Cyclist": 3, "DontCare": 4},
        "ignored_counts": {"Van": 1},
        "image_sizes": {"1242x375": 3},
        "size_counts": {"Car": {"small": 1, "medium": 9}},
        "source_ids": ["000001"],
        "shards": shards,
        "split": "drive",
    }
    return Manifest(**(facts | values))


def write(folder, name, num_examples=3, **values) -> Manifest:
    (folder / name).write_bytes(b"12345")
    made = manifest([Shard(name, num_examples, 5, "0" * 64)], **values)
    made.write(folder / name)
    return made


def test_there_and_back(tmp_path):
    made = write(tmp_path, "train.record")
    assert manifest_path(tmp_path / "train.record").name == "train.record.manifest.json"
    assert Manifest.read(tmp_path / "train.record") == made
    assert Manifest.read(f"{tmp_path}/*.record") == made
    assert made.shards_exist(tmp_path)


def test_no_manifest_is_none(tmp_path):
    (tmp_path / "other.record").write_bytes(b"")
    assert Manifest.read(tmp_path / "other.record") is None
    write(tmp_path, "train.record")
    assert Manifest.read(f"{tmp_path}/*.record") is None


def test_shards_have_one_manifest(tmp_path):
    names = [f"train.record-0000{i}-of-00002" for i in range(2)]
    for name in names:
        (tmp_path / name).write_bytes(b"12345")
    made = manifest([Shard(name, n, 5, "") for name, n in zip(names, (3, 4), strict=True)])
    made.write(tmp_path / "train.record")
    assert Manifest.read(tmp_path / "train.record") == made
    assert Manifest.read(f"{tmp_path}/train.record-*") == made
    assert Manifest.read(tmp_path / names[1]).num_examples == 4


def test_several_records_add_up(tmp_path):
    write(tmp_path, "a.record", 3)
    write(tmp_path, "b.record", 4, max_objects_per_image=9, source_ids=["2"], split="random")
    merged = Manifest.read(f"{tmp_path}/a.record,{tmp_path}/b.record")
    assert merged.num_examples == 7 and merged.max_objects_per_image == 9
    assert merged.class_counts["Car"] == 20 and merged.ignored_counts == {"Van": 2}
    assert merged.size_counts == {"Car": {"small": 2, "medium": 18}}
    assert merged.source_ids == ["000001", "2"] and merged.split == "drive+random"
    assert [shard.name for shard in merged.shards] == ["a.record", "b.record"]


def test_different_label_maps_do_not_merge(tmp_path):
    write(tmp_path, "a.record")
    write(tmp_path, "b.record", label_map=LabelMap.kitti())
    with pytest.raises(UserError, match="convert both with one label map"):
        Manifest.read(f"{tmp_path}/*.record")


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.pop("num_examples"),
        lambda values: values.update(unknown=1),
        lambda values: values.update(shards=[{"name": "x"}]),
        lambda values: values.update(format_version=None),
        lambda values: values.update(label_map=[1]),
    ],
)
def test_a_damaged_manifest_is_one_line(tmp_path, change):
    write(tmp_path, "a.record")
    path = manifest_path(tmp_path / "a.record")
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    with pytest.raises(UserError, match="damaged manifest"):
        Manifest.read(tmp_path / "a.record")
    path.write_text("{")
    with pytest.raises(UserError, match="damaged manifest"):
        Manifest.read(tmp_path / "a.record")


def test_a_newer_manifest_says_so(tmp_path):
    made = write(tmp_path, "a.record")
    dataclasses.replace(made, format_version=99).write(tmp_path / "a.record")
    with pytest.raises(UserError, match="newer version"):
        Manifest.read(tmp_path / "a.record")


def test_a_shard_of_another_size_is_noticed(tmp_path):
    made = write(tmp_path, "a.record")
    (tmp_path / "a.record").write_bytes(b"1")
    assert not made.shards_exist(tmp_path)
