"""Checkpoints whose anchors are others than the model's: trained on, never evaluated."""

import re

import numpy as np
import pytest
from random_networks import config_with, store_random, tiny, values

from efficientdet.checkpoint.bundle import write_bundle
from efficientdet.checkpoint.restore import restore
from efficientdet.checkpoint.stored import EMA
from efficientdet.config import Config, load_yaml, parse_hparams
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UserError
from efficientdet.inference.detector import Detector
from efficientdet.model.detector import build_detector

KITTI = LabelMap.kitti()
_PREDICT = "class_net/class-predict"


def test_rows_of_kept_anchors(coco, coco_arrays):
    ratios = [[0.63, 1.58], 1.0, 2.0]  # the first is 0.4: nearest to 0.5
    config = config_with(num_scales=3, aspect_ratios=ratios, anchor_scale=2.0)
    model = build_detector(config)
    report = restore(model, str(coco), config)
    stored = coco_arrays[f"box_net/box-predict/bias{EMA}"].reshape(3, 3, 4)
    bias = values(model)["box_net/box-predict/bias"].reshape(3, 3, 4)
    np.testing.assert_array_equal(bias[:, 1:], stored[:, :2])
    np.testing.assert_array_equal(bias[:, 0], stored[:, 2])
    assert "6 of 9 anchors" in report.line() and "start from the nearest" in report.line()
    assert len(report.names("adapted")) == 4 and not report.names("reinitialised")


def test_own_run_is_matched_by_its_own_anchors_and_names(coco_arrays, tmp_path):
    config = config_with(num_classes=3, num_scales=1, aspect_ratios=[1.0, 2.0])
    names = LabelMap((("Cyclist",), ("Car",), ("Tram",)))
    model = build_detector(config)
    write_bundle(tmp_path / "model.ckpt-9", values(model) | {"state/updates": np.float32(3)})
    config.save(tmp_path / "config.yaml")
    names.write(tmp_path / "label_map.txt")
    other = config_with(num_classes=2, num_scales=1, aspect_ratios=[2.0, 1.0])
    target = build_detector(other)
    here = LabelMap((("Car", "Van"), ("Cyclist",)))
    report = restore(target, str(tmp_path), other, label_map=here)
    expected = values(model)[f"{_PREDICT}/pointwise_kernel"].reshape(64, 2, 3)
    kernel = values(target)[f"{_PREDICT}/pointwise_kernel"].reshape(64, 2, 2)
    np.testing.assert_array_equal(kernel, expected[:, ::-1][..., [1, 0]])
    report.require_complete()
    assert report.left_over == []


@pytest.mark.parametrize(
    ("stored", "here", "right"),
    [
        # A published checkpoint: the model's row in the table says it.
        (("efficientdet-d0", None), {"anchor_scale": 2.0}, "anchor_scale=4.0"),
        (("efficientdet-d0", None), {"anchor_scale": 4.0}, None),
        (("efficientdet-d7", None), {}, None),
        (("efficientdet-d7", None), {"anchor_scale": 4.0}, "anchor_scale=5.0"),
        (("efficientdet-d7x", None), {"anchor_scale": 5.0}, "anchor_scale=4.0"),
        # A run: its config.yaml, which may be AutoML's or hold only the model's name.
        (("efficientdet-d0", "anchor_scale: 2.0"), {}, "anchor_scale=2.0"),
        (("efficientdet-d0", "anchor_scale: 2.0"), {"anchor_scale": 2.0}, None),
        (("efficientdet-d0", "{name: efficientdet-lite0, strategy: null}"), {}, "anchor_scale=3.0"),
        (("efficientdet-d0", "{strategy: null}"), {}, None),
        # One a level.
        (("efficientdet-d0", None), {"anchor_scale": [4.0] * 5}, None),
        (
            ("efficientdet-d0", None),
            {"anchor_scale": [2.0] + [4.0] * 4},
            "anchor_scale=4.0",
        ),
        (
            ("efficientdet-d0", "anchor_scale: [2.0, 3.0, 4.0, 4.0, 4.0]"),
            {},
            "anchor_scale=2.0*3.0*4.0*4.0*4.0",
        ),
    ],
)
def test_another_anchor_scale_is_fit_to_train_on_and_not_to_evaluate(tmp_path, stored, here, right):
    name, written = stored
    store_random(tmp_path, tiny(name))
    if written:
        (tmp_path / "config.yaml").write_text(written)
    config = tiny(name, **here)
    model = build_detector(config)
    if right is None:
        Detector(model, config).load(tmp_path)
        return
    with pytest.raises(UserError, match=re.escape(f"--hparams={right}")) as error:
        Detector(model, config).load(tmp_path)
    assert "\n" not in str(error.value)
    report = restore(model, str(tmp_path), config)
    assert f"trained with {right}, here" in report.line() and not report.names("reinitialised")
    hparams = parse_hparams(right)
    Detector(model, config.override(hparams)).load(tmp_path)


def test_anchor_scales_of_levels_that_are_new_do_not_count(tmp_path):
    store_random(tmp_path, tiny())
    for scales, right in (([3.0] + [4.0] * 5, None), ([3.0] * 6, "4.0")):
        config = tiny(min_level=2, anchor_scale=scales)
        report = restore(build_detector(config), str(tmp_path), config)
        assert report.right_scale == (right and f"anchor_scale={right}")


def test_nothing_is_known_of_the_anchors_of_a_run_without_its_config(tmp_path):
    store_random(tmp_path, tiny(), **{"state/updates": np.float32(3)})
    config = tiny(anchor_scale=2.0)
    Detector(build_detector(config), config).load(tmp_path)


def test_a_backbone_has_no_anchors(tmp_path):
    store_random(tmp_path, tiny())
    config = tiny(anchor_scale=2.0)
    report = restore(build_detector(config), str(tmp_path), config, backbone_only=True)
    assert report.right_scale is None and not report.notes


def test_the_published_heads_are_adapted_to_the_anchors_of_the_inspector(tmp_path):
    """In training; evaluated, they would decode every box on an anchor of another shape."""
    arrays = store_random(tmp_path, tiny())
    config = tiny(aspect_ratios=[1.08, 2.16, 0.4])
    model = build_detector(config)
    report = restore(model, str(tmp_path), config)
    for head in (_PREDICT, "box_net/box-predict"):
        for leaf in ("pointwise_kernel", "bias"):
            np.testing.assert_array_equal(values(model)[f"{head}/{leaf}"], arrays[f"{head}/{leaf}"])
    assert len(report.names("adapted")) == 4
    assert "0 of 9 anchors" in report.line()
    with pytest.raises(UserError, match="4 variables would be random or adapted.*0 of 9 anchors"):
        report.require_complete()


def test_a_run_is_evaluated_with_its_own_anchors(shared):
    """Real weights: trained by this program, with a scale and ratios of their own."""
    folder = shared / "runs" / "lite0_768x240"
    if not folder.is_dir():
        pytest.skip("needs ../shared/runs/lite0_768x240")
    config = Config().override(load_yaml(folder / "config.yaml"))
    model = build_detector(config.override({"image_size": 64}))
    Detector(model, config).load(folder, KITTI)
    stock = config.override({"anchor_scale": 4.0})
    with pytest.raises(UserError, match="--hparams=anchor_scale=2.0"):
        Detector(model, stock).load(folder, KITTI)
