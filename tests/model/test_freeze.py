import numpy as np
import pytest
import tensorflow as tf

from efficientdet.config import Config
from efficientdet.errors import UsageError
from efficientdet.model import freeze
from efficientdet.model.detector import PARTS, automl_names, build_detector, part_of

SMALL = {"image_size": 64, "num_classes": 2, "fpn_cell_repeats": 1, "box_class_repeats": 1}
BACKBONE_AND_FPN = "(efficientnet|fpn_cells|resample_p6)"


def config_with(**changes):
    return Config.for_model("efficientdet-lite0").override({**SMALL, **changes})


@pytest.fixture(scope="module")
def model():
    return build_detector(config_with())


def modes(report):
    return {row.part: row.batch_norm.split()[0] for row in report.rows}


def frozen_parts(report):
    return {row.part for row in report.rows if row.num_frozen == row.num_variables}


def test_nothing_by_default(model):
    report = freeze.apply(model, config_with())
    assert not report.frozen_names
    assert set(modes(report).values()) == {"batch"}


def test_pattern_freezes_parts_with_their_statistics(model):
    report = freeze.apply(model, config_with(var_freeze_expr=BACKBONE_AND_FPN))
    assert frozen_parts(report) == {"backbone", "fpn"}
    assert {part_of(name) for name in report.frozen_names} == {"backbone", "fpn"}
    assert modes(report) == dict(zip(PARTS, ["moving", "moving", "batch", "batch"], strict=True))


@pytest.mark.parametrize(("said", "mode"), [(True, "batch"), (False, "moving")])
def test_what_is_said_about_batch_norm_is_obeyed(model, said, mode):
    config = config_with(var_freeze_expr=BACKBONE_AND_FPN, is_training_bn=said)
    assert set(modes(freeze.apply(model, config)).values()) == {mode}


def test_parts_add_to_the_pattern(model):
    config = config_with(var_freeze_expr=r".*/conv2d/kernel:0$")
    report = freeze.apply(model, config, parts=("class_head",))
    assert frozen_parts(report) == {"class_head"}
    assert "efficientnet-lite0/stem/conv2d/kernel" in report.frozen_names
    assert modes(report)["backbone"] == "batch"


def test_pattern_is_matched_from_the_start_of_a_name(model):
    names = freeze.apply(model, config_with(var_freeze_expr="class_net/class-predict")).frozen_names
    assert names == {f"class_net/class-predict/{leaf}" for leaf in
                     ("depthwise_kernel", "pointwise_kernel", "bias")}  # fmt: skip
    with pytest.raises(UsageError, match="matches no variable"):
        freeze.apply(model, config_with(var_freeze_expr="class-predict"))


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(((", "no regular expression"),
        (".*", "nothing to train"),
        ("resnet", "matches no variable"),
    ],
)
def test_useless_patterns(model, pattern, message):
    with pytest.raises(UsageError, match=message):
        freeze.apply(model, config_with(var_freeze_expr=pattern))


def test_frozen_statistics_stay_and_the_others_move(model):
    freeze.apply(model, config_with(), parts=("backbone",))
    before = {name: v.numpy() for name, v in automl_names(model).items() if not v.trainable}
    model(np.random.default_rng(0).normal(size=(2, 64, 64, 3)), training=True)
    after = automl_names(model)
    moved = {part_of(name) for name, x in before.items() if np.any(after[name].numpy() != x)}
    assert moved == {"fpn", "class_head", "box_head"}
    freeze.apply(model, config_with())


def test_a_batch_norm_that_is_new_is_never_frozen(model):
    """What did not come from the checkpoint has no statistics to keep."""
    new = "class_net/class-0-bn-3"
    names = automl_names(model)
    restored = [name for name in names if not name.startswith(new)]
    report = freeze.apply(model, config_with(is_training_bn=False), restored=restored)
    mode = next(row.batch_norm for row in report.rows if row.part == "class_head")
    assert mode == "moving statistics, 1 of 5 new: batch statistics"
    before = {name: v.numpy() for name, v in names.items() if not v.trainable}
    model(np.random.default_rng(0).normal(size=(2, 64, 64, 3)), training=True)
    moved = {name for name, x in before.items() if np.any(names[name].numpy() != x)}
    assert moved == {f"{new}/moving_mean", f"{new}/moving_variance"}
    freeze.apply(model, config_with())


@pytest.mark.parametrize(
    ("parts", "without_gradient"),
    [
        (("backbone",), {"backbone"}),
        (("backbone", "fpn"), {"backbone", "fpn"}),
        (("fpn",), set()),  # the backbone's gradient passes through it
    ],
)
def test_no_gradient_below_what_is_trained(model, parts, without_gradient):
    freeze.apply(model, config_with(), parts=parts)
    with tf.GradientTape() as tape:
        classes, boxes = model(np.ones((1, 64, 64, 3), "float32"), training=True)
        loss = sum(tf.reduce_sum(x * x) for x in [*classes, *boxes])
    names = {n: v for n, v in automl_names(model).items() if v.trainable}
    gradients = tape.gradient(loss, [v.value for v in names.values()])
    absent = {part_of(n) for n, g in zip(names, gradients, strict=True) if g is None}
    assert absent == without_gradient
    freeze.apply(model, config_with())


def test_a_row_for_every_part(model):
    rows = freeze.apply(model, config_with(var_freeze_expr=BACKBONE_AND_FPN)).rows
    assert [row.part for row in rows] == list(PARTS)
    assert {row.batch_norm for row in rows} == {"moving statistics", "batch statistics"}
