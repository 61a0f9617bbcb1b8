"""What a model takes from a checkpoint, and what it says of the rest."""

import json
import shutil

import numpy as np
import pytest
from random_networks import config_with, store_random, tiny, values

from efficientdet.checkpoint.bundle import write_bundle
from efficientdet.checkpoint.report import REPORT_FILE, read_restored_names
from efficientdet.checkpoint.restore import restore
from efficientdet.checkpoint.stored import EMA, read_weights
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UserError
from efficientdet.model.detector import build_detector, part_of

KITTI = LabelMap.kitti()
_PREDICT = "class_net/class-predict"


@pytest.fixture(scope="module")
def kitti_model():
    return build_detector(config_with(num_classes=8))


def test_everything_is_restored_from_the_averages(coco, coco_arrays):
    model = build_detector(config_with())
    report = restore(model, str(coco), config_with())
    assert report.names("restored") == list(values(model))
    assert report.left_over == []
    assert report.num_averaged == len(values(model))
    for name, value in values(model).items():
        np.testing.assert_array_equal(value, coco_arrays[f"{name}{EMA}"])
    report.require_complete()


def test_raw_values_where_there_is_no_average(coco_arrays, tmp_path):
    only = f"{_PREDICT}/bias"
    write_bundle(tmp_path / "model", {n: a for n, a in coco_arrays.items() if n != only + EMA})
    model = build_detector(config_with())
    restore(model, str(tmp_path / "model"), config_with())
    np.testing.assert_array_equal(values(model)[only], coco_arrays[only])
    other = f"{_PREDICT}/pointwise_kernel"
    np.testing.assert_array_equal(values(model)[other], coco_arrays[other + EMA])


def test_other_classes_start_at_random_and_say_so(coco, kitti_model, tmp_path):
    before = values(kitti_model)
    report = restore(kitti_model, str(coco), config_with(num_classes=8), label_map=KITTI)
    reinitialised = report.names("reinitialised")
    assert reinitialised == [f"{_PREDICT}/pointwise_kernel", f"{_PREDICT}/bias"]
    assert sorted(report.left_over) == sorted(reinitialised)
    for name in reinitialised:
        np.testing.assert_array_equal(values(kitti_model)[name], before[name])
    assert "90 classes in the checkpoint, 8 here" in report.line()
    with pytest.raises(UserError, match="2 variables would be random.*by_id"):
        report.require_complete()
    written = json.loads(report.write(tmp_path).read_text())
    assert written["parts"]["class_head"]["reinitialised"] == 2
    assert len(written["variables"]) == len(before)


def test_by_id_takes_the_first_rows(coco, coco_arrays, kitti_model):
    report = restore(kitti_model, str(coco), config_with(num_classes=8), classes="by_id")
    stored = coco_arrays[f"{_PREDICT}/bias{EMA}"].reshape(9, 90)
    restored = values(kitti_model)[f"{_PREDICT}/bias"].reshape(9, 8)
    np.testing.assert_array_equal(restored, stored[:, :8])
    report.require_complete()


def test_rows_of_coco_classes(coco, coco_arrays, kitti_model):
    before = values(kitti_model)[f"{_PREDICT}/pointwise_kernel"].reshape(64, 9, 8)
    config = config_with(num_classes=8)
    report = restore(kitti_model, str(coco), config, label_map=KITTI, init_classes=True)
    stored = coco_arrays[f"{_PREDICT}/pointwise_kernel{EMA}"].reshape(64, 9, 90)
    kernel = values(kitti_model)[f"{_PREDICT}/pointwise_kernel"].reshape(64, 9, 8)
    for kitti, coco_id in {"Car": 3, "Pedestrian": 1, "Tram": 7}.items():
        np.testing.assert_array_equal(kernel[..., KITTI.id_of(kitti) - 1], stored[..., coco_id - 1])
    misc = KITTI.id_of("Misc") - 1
    np.testing.assert_array_equal(kernel[..., misc], before[..., misc])
    assert len(report.names("adapted")) == 2


def test_pyramid_from_level_two_starts_from_the_stock_one(coco):
    config = config_with(min_level=2)
    report = restore(build_detector(config), str(coco), config)
    assert all(part_of(name) != "backbone" for name in report.names("absent"))
    restored = set(report.names("restored"))
    assert "fpn_cells/cell_0/fnode0/op_after_combine6/conv/bias" in restored
    assert report.names("adapted") == [
        name for name in values(build_detector(config)) if "-bn-2/" in name
    ]
    assert "new level 2: the heads' BatchNorms begin as those of the nearest" in report.line()
    with pytest.raises(UserError, match="random or adapted"):
        report.require_complete()


def test_batch_norms_of_a_new_level_begin_as_those_of_the_nearest(tmp_path):
    arrays = store_random(tmp_path, tiny())
    model = build_detector(tiny(min_level=2))
    restore(model, str(tmp_path), tiny(min_level=2))
    for leaf in ("gamma", "beta", "moving_mean", "moving_variance"):
        for layer in ("class_net/class-0-bn-", "box_net/box-0-bn-"):
            value = values(model)[f"{layer}2/{leaf}"]
            np.testing.assert_array_equal(value, arrays[f"{layer}3/{leaf}"])


def test_the_written_report_names_what_began_with_the_checkpoint(tmp_path):
    assert read_restored_names(tmp_path) is None
    store_random(tmp_path, tiny())
    config = tiny(min_level=2)
    report = restore(build_detector(config), str(tmp_path), config)
    report.write(tmp_path)
    names = read_restored_names(tmp_path)
    assert names == report.restored_names
    assert "class_net/class-0-bn-2/moving_mean" in names
    assert set(report.names("absent")).isdisjoint(names) and report.names("absent")
    (tmp_path / REPORT_FILE).write_text('{"variables": [{}]}')
    with pytest.raises(UserError, match=f"{REPORT_FILE}: not readable.*expected the report"):
        read_restored_names(tmp_path)


@pytest.mark.parametrize("published", ["detector", "classifier"])
def test_backbone_only(coco, coco_arrays, kitti_model, tmp_path, published):
    path = coco
    if published == "classifier":  # EfficientNet's own checkpoints have a head of their own
        head = {"efficientnet-lite0/head/conv2d/kernel": np.ones((1, 1, 2, 3), "float32")}
        backbone = {n: a for n, a in coco_arrays.items() if part_of(n) == "backbone"}
        path = tmp_path / "model.ckpt"
        write_bundle(path, backbone | head)
    before = values(kitti_model)
    config = config_with(num_classes=8)
    report = restore(kitti_model, str(path), config, backbone_only=True)
    assert {part_of(outcome.name) for outcome in report.outcomes} == {"backbone"}
    assert report.backbone_share == 1
    assert report.left_over
    for name, value in values(kitti_model).items():
        changed = not np.array_equal(value, before[name])
        assert not changed or part_of(name) == "backbone"


def test_too_little_backbone_changes_nothing(coco, coco_arrays):
    config = config_with("efficientdet-lite1")
    model = build_detector(config)
    before = values(model)
    with pytest.raises(UserError, match=r"only 0% .*efficientnet-lite0 .*efficientdet-lite0"):
        restore(model, str(coco), config)
    for name, value in values(model).items():
        np.testing.assert_array_equal(value, before[name])
    assert restore(model, str(coco), config, allow_partial=True).backbone_share == 0


def damage(kind, coco, tmp_path):
    """A damaged copy of the checkpoint, and what the error must say."""
    folder = tmp_path / "damaged"
    shutil.copytree(coco, folder)
    data = folder / "model.data-00000-of-00001"
    content = data.read_bytes()
    if kind == "truncated":
        data.write_bytes(content[: len(content) // 2])
    elif kind == "flipped bit":
        data.write_bytes(content[:1000] + bytes([content[1000] ^ 1]) + content[1001:])
    elif kind == "no data file":
        data.unlink()
    elif kind == "empty index":
        (folder / "model.index").write_bytes(b"")
    elif kind == "index of something else":
        (folder / "model.index").write_bytes(b"not an index at all" * 100)
    elif kind == "empty folder":
        shutil.rmtree(folder)
        folder.mkdir()
    elif kind == "absent":
        shutil.rmtree(folder)
    return folder


@pytest.mark.parametrize(
    "kind",
    ["truncated", "flipped bit", "no data file", "empty index", "index of something else",
     "empty folder", "absent"],
)  # fmt: skip
def test_damage_is_one_clear_line(kind, coco, kitti_model, tmp_path):
    before = values(kitti_model)
    with pytest.raises(UserError) as error:
        restore(kitti_model, str(damage(kind, coco, tmp_path)), config_with(num_classes=8))
    assert "damaged" in str(error.value)
    assert "\n" not in str(error.value)
    for name, value in values(kitti_model).items():
        np.testing.assert_array_equal(value, before[name])


def test_automl_model_dir(coco_arrays, tmp_path):
    """Its config.yaml has keys that do not exist here, and other forms of the same anchors."""
    write_bundle(tmp_path / "model.ckpt-10", coco_arrays)
    (tmp_path / "config.yaml").write_text(
        "aspect_ratios: [[1.0, 1.0], [1.4, 0.7], [0.7, 1.4]]\nstrategy: null\nnum_scales: 3\n"
    )
    model = build_detector(config_with(num_classes=8))
    report = restore(model, str(tmp_path), config_with(num_classes=8), classes="by_id")
    report.require_complete()
    (tmp_path / "config.yaml").write_text("aspect_ratios: wide\n")
    with pytest.raises(UserError, match="aspect_ratios='wide'"):
        read_weights(str(tmp_path))
