"""Manifests: written, read, merged, damaged."""

import dataclasses
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.manifest import Manifest, Shard, UnfinishedConversion, manifest_path
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


DEEP = '{"format_version": ' + "[" * 100_000 + "]" * 100_000 + "}"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"num_examples": 3,', '"num_examples": -5,', "num_examples is -5, expected 1 to"),
        ('"num_examples": 3,', '"num_examples": true,', "num_examples is True, expected a whole"),
        ('"num_examples": 3,', '"num_examples": "3",', "num_examples is '3', expected a whole"),
        ('"num_examples": 3,', '"num_examples": NaN,', "NaN is no number"),
        ('"num_examples": 3,', '"num_examples": 1e999,', "num_examples is inf, expected a whole"),
        ('"num_examples": 3,', f'"num_examples": {"9" * 5000},', "digits"),
        ('"num_examples": 3,', '"num_examples": 4,', "num_examples is 4, its shards have 3"),
        ('"num_examples": 3,', '"num_examples": 3, "num_examples": 3,', "stands twice"),
        ('"num_examples": 3,', "", "num_examples is missing"),
        ('"num_bytes": 5', '"num_bytes": [5]', r"shards\[0\].num_bytes is \[5\], expected a whole"),
        ('"num_bytes": 5,', "", r"shards\[0\].num_bytes is missing"),
        (
            '"a.record"',
            '"../a.record"',
            r"shards\[0\].name is '../a.record', expected",
        ),
        ('"a.record"', '"/a.record"', r"shards\[0\].name is '/a.record'"),
        ('"a.record"', '".."', r"shards\[0\].name is '..'"),
        ('"a.record"', "null", r"shards\[0\].name is None, expected a text"),
        ('"max_objects_per_image": 5', '"max_objects_per_image": 20', "fewer objects in all"),
        ('"max_objects_per_image": 5', '"max_objects_per_image": 10000000', "expected 0 to 999999"),
        ('"DontCare": 4', '"DontCare": -4', "class_counts.DontCare is -4"),
        ('"medium": 9', '"medium": {}', r"size_counts.Car.medium is \{\}"),
        ('"000001"', "1", r"source_ids\[0\] is 1, expected a text"),
        ('"options": {}', '"options": []', r"options is \[\], expected names with values"),
        ('"options": {}', '"options": {"classes": [3]}', r"options.classes\[0\] is 3"),
        ('"options": {}', '"options": {}, "colour": 1', "colour is no field"),
        ('"1": [', '"x": [', "label_map: label map: 'x' is no id"),
        ('"1": [', '"7": [', "label_map: label map: ids must be 1..K"),
        ('"Cyclist"', "{}", r"label_map.2\[0\] is \{\}"),
        ('"format_version": 1', '"format_version": 0', "format_version is 0, expected 1"),
        ('"format_version": 1', '"format_version": "1"', "format_version is '1', expected a whole"),
        ('"format_version": 1', '"unfinished": true', "format_version is None"),
    ],
)
def test_a_damaged_field_is_named(tmp_path, old, new, said):
    write(tmp_path, "a.record")
    path = manifest_path(tmp_path / "a.record")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=rf"a.record.manifest.json: damaged manifest .*{said}") as e:
        Manifest.read(tmp_path / "a.record")
    assert "\n" not in str(e.value) and len(str(e.value)) < 400


@pytest.mark.parametrize(
    "text", [DEEP, "[]", "5", "", "\0", '{"format_version": 1, "unfinished": 1}']
)
def test_what_is_no_manifest_is_one_line(tmp_path, text):
    write(tmp_path, "a.record")
    manifest_path(tmp_path / "a.record").write_text(text)
    with pytest.raises(UserError, match="damaged manifest") as error:
        Manifest.read(tmp_path / "a.record")
    assert len(str(error.value)) < 400


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=3,
)


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_stands_in_a_field_it_is_read_or_named(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("a")
    write(folder, "a.record", options={"classes": ["Car"]})
    path = manifest_path(folder / "a.record")
    values = json.loads(path.read_text())
    places = [values, values["shards"][0], values["label_map"], values["options"]]
    place = data.draw(st.sampled_from(places))
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(VALUES)
    path.write_text(json.dumps(values))
    try:
        found = Manifest.read(folder / "a.record")
    except UserError as error:
        assert str(path) in str(error) and "\n" not in str(error)  # noqa: PT017
    else:
        assert found.num_examples == 3 and found.summary() and found.label_map.num_classes


def test_an_unfinished_conversion_is_no_record(tmp_path):
    write(tmp_path, "a.record")
    Manifest.mark_unfinished(tmp_path / "a.record", "1" * 64)
    with pytest.raises(UnfinishedConversion, match="a.record: unfinished conversion") as error:
        Manifest.read(tmp_path / "a.record")
    assert error.value.inputs_sha256 == "1" * 64


def test_a_newer_manifest_says_so(tmp_path):
    made = write(tmp_path, "a.record")
    dataclasses.replace(made, format_version=99).write(tmp_path / "a.record")
    with pytest.raises(UserError, match="newer version"):
        Manifest.read(tmp_path / "a.record")


def test_a_shard_of_another_size_is_noticed(tmp_path):
    made = write(tmp_path, "a.record")
    (tmp_path / "a.record").write_bytes(b"1")
    assert not made.shards_exist(tmp_path)
