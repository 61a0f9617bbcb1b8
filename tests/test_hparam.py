"""Ranges: what makes sense of each hyper-parameter is taken, the rest refused."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientdet.config import MODELS, Config, NmsConfig, parse_hparams
from efficientdet.errors import UsageError
from efficientdet.hparam import LARGEST, Range

SENSELESS = """
    learning_rate=-1 lr_warmup_init=-0.1 lr_warmup_epoch=-1 momentum=7 momentum=1 momentum=-0.5
    crop_prob=5 crop_prob=-0.1 mosaic_prob=2 copy_paste_prob=-1 photometric=3 photometric=-1
    stddev_rgb=0*0*0 stddev_rgb=-1 mean_rgb=-5 mean_rgb=300*300*300 anchor_scale=-4 anchor_scale=0
    anchor_scale=[1,2] anchor_scale=[] survival_prob=-1 survival_prob=1.5 class_prior=2
    class_prior=0 class_prior=1 class_prior=0.1*1.1 class_weights=-1*1 aspect_ratios=[]
    aspect_ratios=0 aspect_ratios=[(1,-1)] aspect_ratios=-1*2 num_scales=0 num_scales=100000
    min_level=0 min_level=9 min_level=-3 max_level=60 max_level=2 fpn_num_filters=0
    fpn_num_filters=-8 fpn_num_filters=10000000 fpn_cell_repeats=0 fpn_cell_repeats=100000
    box_class_repeats=-1 box_class_repeats=100000 num_classes=0 num_classes=10000000000
    image_size=1 image_size=100000 image_size=1280x1 image_size=99999999999x64 jitter_min=0
    jitter_min=-1 jitter_min=3 jitter_max=0.05 jitter_max=1000 max_instances_per_image=0
    max_instances_per_image=10000000000 mosaic_close_epochs=-1 repeat_threshold=-0.1
    repeat_threshold=2 alpha=-1 alpha=1.5 gamma=-1 label_smoothing=-0.1 label_smoothing=1 delta=0
    delta=-1 box_loss_weight=-50 iou_loss_weight=-1 weight_decay=-1e-4 positives_momentum=1
    positives_momentum=-1 ignore_overlap=2 ignore_overlap=-1 poly_lr_power=-1 restart_epochs=0
    clip_gradients_norm=-1 num_epochs=-1 num_epochs=10000000000 moving_average_decay=1
    moving_average_decay=-0.1 batch_norm_momentum=1.5 batch_norm_momentum=-1 var_freeze_expr=*a
    var_freeze_expr=a{99999999999} backbone_lr_scale=-1 heads_only_epochs=-1
    early_stopping_epochs=-1 seed=-1 seed=4294967296 loss_scale=-1 grad_accum_steps=0
    grad_accum_steps=1000000 nms_configs.iou_thresh=-1 nms_configs.iou_thresh=2
    nms_configs.score_thresh=-1 nms_configs.score_thresh=7 nms_configs.sigma=-0.5
    nms_configs.max_nms_inputs=-1 nms_configs.max_output_size=0 nms_configs.max_output_size=-100
    nms_configs.max_output_size=10000000 name=efficientdet-d9 learning_rate=1e39
    first_lr_drop_epoch=300,lr_decay_method=stepwise
""".split()  # noqa: SIM905


@pytest.mark.parametrize("typed", SENSELESS)
def test_what_makes_no_sense_is_refused(typed: str) -> None:
    with pytest.raises(UsageError) as caught:
        Config().override(parse_hparams(typed))
    line = str(caught.value)
    key, _, _ = typed.partition("=")
    assert key in line and "\n" not in line and len(line) < 400
    assert "expected" in line or "regular expression" in line or "no such model" in line


@pytest.mark.parametrize(
    "typed",
    """
    survival_prob=0 survival_prob=none survival_prob=1 clip_gradients_norm=0 num_epochs=0
    moving_average_decay=0 learning_rate=0 lr_warmup_epoch=0 momentum=0 weight_decay=0
    box_loss_weight=0 positives_momentum=0 loss_scale=0 nms_configs.sigma=0
    nms_configs.score_thresh=none nms_configs.iou_thresh=0 box_class_repeats=0 min_level=2
    max_level=8 jitter_min=1,jitter_max=1 mean_rgb=0 stddev_rgb=255 class_weights=0*1*1
    class_prior=0.1*0.01 aspect_ratios=(1,1)*(1.4,0.7) num_scales=1 gamma=0 alpha=0
    first_lr_drop_epoch=300 var_freeze_expr=(efficientnet|fpn_cells|resample_p6)
    var_freeze_expr= max_instances_per_image=1000 nms_configs.max_nms_inputs=1000000
    label_smoothing=0.1 batch_norm_momentum=0 seed=4294967295 backbone_lr_scale=0
    anchor_scale=1*2*3*4*5 image_size=1920x1920 optimizer=adam lr_warmup_init=0
    """.split(),  # noqa: SIM905
)
def test_what_means_something_is_taken(typed: str) -> None:
    Config().override(parse_hparams(typed))


def _ranges() -> Iterator[tuple[str, dataclasses.Field, Any]]:
    for declared, prefix in ((Config(), ""), (NmsConfig(), "nms_configs.")):
        for field in dataclasses.fields(declared):
            if field.metadata["within"]:
                yield prefix + field.name, field, getattr(declared, field.name)


NUMERIC = {key: (field, default) for key, field, default in _ranges()}


def test_every_number_has_a_range_and_every_field_a_meaning() -> None:
    for declared, prefix in ((Config(), ""), (NmsConfig(), "nms_configs.")):
        for field in dataclasses.fields(declared):
            assert field.metadata["meaning"]
            numeric = "float" in str(field.type) or "int" in str(field.type)
            assert numeric == (prefix + field.name in NUMERIC), field.name


def _with(key: str, number: float) -> Config:
    """A configuration in which `key`, or each number of it, is `number`, and the others fit."""
    default = NUMERIC[key][1]
    value = [number] * len(default) if isinstance(default, list | tuple) else number
    room = {"jitter_min": 0.01, "jitter_max": 10, "min_level": 1, "max_level": 12}
    return Config().override(room | {key: value})


@settings(deadline=None, derandomize=True, max_examples=20)
@given(st.data())
@pytest.mark.parametrize("key", NUMERIC)
def test_a_range_holds_what_it_says(key: str, data: st.DataObject) -> None:
    field, _ = NUMERIC[key]
    within: Range = field.metadata["within"]
    below, above = within.lower, within.upper
    if "int" in str(field.type):
        inside = st.integers(int(below), int(above))
        outside = st.integers(int(above) + 1, 10**12) | st.integers(-(10**12), int(below) - 1)
    else:
        top = min(above, LARGEST)
        inside = st.floats(below, top).filter(within.__contains__)
        outside = st.floats(-LARGEST, below, exclude_max=below in within)
        if above < LARGEST:
            outside |= st.floats(above, LARGEST, exclude_min=above in within)
    good, bad = data.draw(inside), data.draw(outside)
    _with(key, good)
    with pytest.raises(UsageError) as caught:
        _with(key, bad)
    line = str(caught.value)
    assert line.startswith(f"{key}=") and f" in {within}" in line
    assert repr(bad) in line


@pytest.mark.parametrize(
    ("text", "holds", "misses"),
    [
        ("[0, 1)", [0, 0.5], [-0.1, 1, float("nan")]),
        ("(0, inf)", [1e-9, 1e300], [0, -1, float("inf")]),
        ("[1, 8]", [1, 8], [0, 9]),
    ],
)
def test_a_range_reads_as_it_is_written(text: str, holds: list, misses: list) -> None:
    within = Range.parse(text)
    assert all(number in within for number in holds) and str(within) == text
    assert not any(number in within for number in misses)


def test_the_defaults_of_every_model_lie_in_their_ranges() -> None:
    for name in MODELS:
        Config.for_model(name)  # checks itself
