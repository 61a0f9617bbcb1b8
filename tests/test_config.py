"""Hyper-parameters as people type them, what is refused, and what comes back from config.yaml."""

import dataclasses
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientdet.config import (
    MODELS,
    Config,
    NmsConfig,
    load_yaml,
    parse_hparams,
    parse_image_size,
)
from efficientdet.errors import UsageError
from efficientdet.hparam import LARGEST, Range

POSITIVE = st.floats(min_value=1e-6, max_value=1e6)
FACTOR = st.floats(0.01, 100)
PAIRS = st.tuples(FACTOR, FACTOR)
VALID = st.fixed_dictionaries(
    {},
    optional={
        "image_size": st.integers(16, 4096)
        | st.tuples(st.integers(16, 4096), st.integers(16, 4096)).map("{0[0]}x{0[1]}".format),
        "learning_rate": POSITIVE,
        "aspect_ratios": st.lists(FACTOR | PAIRS, min_size=1, max_size=4),
        "anchor_scale": FACTOR | st.lists(FACTOR, min_size=5, max_size=5),
        "mixed_precision": st.booleans(),
        "is_training_bn": st.none() | st.booleans(),
        "survival_prob": st.none() | st.floats(0, 1),
        "var_freeze_expr": st.none() | st.text(min_size=1).map(re.escape),
        "copy_paste_classes": st.lists(st.sampled_from(["Cyclist", "Tram", "1", "none"])),
        "mean_rgb": st.tuples(*[st.floats(0, 255)] * 3),
        "nms_configs.method": st.sampled_from(["gaussian", "hard"]),
        "nms_configs.sigma": st.none() | POSITIVE,
        "num_epochs": st.integers(0, 10**6),
    },
)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("num_epochs=3,", {"num_epochs": 3}),
        (" a = 1 , b = x y ", {"a": 1, "b": "x y"}),
        ("a=true,b=False,c=none,d=", {"a": True, "b": False, "c": None, "d": None}),
        ("lr=4e-5,size=1280x384,name='007'", {"lr": 4e-5, "size": "1280x384", "name": "007"}),
        ("r=1.0*2.0*0.5", {"r": [1.0, 2.0, 0.5]}),
        ("r=(1,1)*(1.4,0.7)", {"r": [(1, 1), (1.4, 0.7)]}),
        ("r=[(1.0,1.0),(1.4,0.7)],k=2", {"r": [(1.0, 1.0), (1.4, 0.7)], "k": 2}),
        ("nms_configs.method=hard", {"nms_configs.method": "hard"}),
        ("nms_configs={'sigma': 0.3}", {"nms_configs.sigma": 0.3}),
        ("e=(backbone.*|fpn_.*),k=1", {"e": "(backbone.*|fpn_.*)", "k": 1}),
        ("c=Pedestrian*Tram", {"c": "Pedestrian*Tram"}),
        ("a=b=c", {"a": "b=c"}),
        ("a=1,a=2", {"a": 2}),
    ],
)
def test_hparams_syntax(text: str, values: dict) -> None:
    assert parse_hparams(text) == values


@settings(deadline=None)
@given(st.text())
def test_any_text_parses_or_is_a_usage_error(text: str) -> None:
    try:
        parse_hparams(f"name={text}")
    except UsageError as error:
        assert "--hparams" in str(error) or ".y" in str(error)


def test_later_entries_win_over_yaml_and_before_it(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("num_epochs: 5\nweight_decay: 1e-4\nnms_configs:\n  sigma: 0.3\n")
    values = parse_hparams(f"num_epochs=1,seed=7,{path},nms_configs.sigma=0.4")
    assert values["num_epochs"] == 5 and values["seed"] == 7
    config = Config().override(values)
    assert config.nms_configs == NmsConfig(sigma=0.4)
    assert config.weight_decay == 1e-4  # YAML 1.1 reads 1e-4 as text


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("learning_rat=1", "'learning_rat'; did you mean 'learning_rate'?"),
        ("nms_configs.metod=hard", "'nms_configs.metod'; did you mean 'method'?"),
        ("image_size.x=1", "'image_size.x'; did you mean 'image_size'?"),
        ("qqqqqq=1", "known: name, backbone_name"),
        ("=1", "unknown hyper-parameter ''"),
        ("num_epochs", "'num_epochs' is neither key=value nor a .yaml file"),
        ("a=[1,2", "opens a bracket and does not close it"),
        ("no_such.yaml", "no_such.yaml: No such file or directory"),
        ("num_epochs=many", "num_epochs='many': expected int"),
        ("num_epochs=2.5", "num_epochs=2.5: expected int"),
        ("num_epochs=true", "num_epochs=True: expected int"),
        ("num_epochs=none", "num_epochs=None: expected int"),
        ("learning_rate=nan", "learning_rate='nan': expected float"),
        ("learning_rate=1e999", "expected float"),
        ("mixed_precision=1", "mixed_precision=1: expected bool"),
        ("optimizer=adamw", "optimizer='adamw': expected sgd | adam"),
        ("mean_rgb=1.0*2.0", "mean_rgb=[1.0, 2.0]: expected tuple[float, float, float]"),
        ("aspect_ratios=[(1,2,3)]", "aspect_ratios=[(1, 2, 3)]"),
        ("nms_configs=3", "nms_configs=3: expected NmsConfig"),
        ("grad_accum_steps=0", "grad_accum_steps=0: expected a number in [1, 4096]"),
        ("image_size=1280*384", "=[1280, 384]: expected int | str; did you mean 1280x384?"),
        ("image_size=wide", "`512` or `1280x384` (width x height)"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(text: str, named: str) -> None:
    with pytest.raises(UsageError) as caught:
        Config().override(parse_hparams(text))
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"- 1\n- 2\n", "expected `key: value` lines, found a list"),
        (b"a: [1\nb: 2\n", "not readable as YAML"),
        (b"a: \xff\n", "not readable as YAML"),
    ],
)
def test_a_bad_yaml_is_named(tmp_path: Path, content: bytes, named: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="bad.yaml: ") as caught:
        load_yaml(path)
    assert named in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "given", "stored"),
    [
        ("num_epochs", 3.0, 3),
        ("learning_rate", 1, 1.0),
        ("learning_rate", "4e-5", 4e-5),
        ("mean_rgb", 127.0, (127.0, 127.0, 127.0)),  # as AutoML's lite models have it
        ("aspect_ratios", 1.0, [1.0]),
        ("aspect_ratios", [1, [1.4, 0.7]], [1.0, (1.4, 0.7)]),
        ("anchor_scale", [2, 2, 3, 4, 4], [2.0, 2.0, 3.0, 4.0, 4.0]),
        ("copy_paste_classes", "Tram*Cyclist", ["Tram", "Cyclist"]),
        ("is_training_bn", None, None),
        ("image_size", "512", "512"),
    ],
)
def test_values_take_their_type(key: str, given: object, stored: object) -> None:
    value = getattr(Config().override({key: given}), key)
    assert value == stored and type(value) is type(stored)


@pytest.mark.parametrize(
    ("value", "height_width"),
    [(512, (512, 512)), ("512", (512, 512)), ("1280x384", (384, 1280)), ("1280X384", (384, 1280))],
)
def test_image_size_is_width_x_height(value: int | str, height_width: tuple) -> None:
    assert parse_image_size(value) == height_width
    assert Config().override({"image_size": value}).image_hw == height_width


@pytest.mark.parametrize("value", ["", "0", "0x384", "1280x", "x", "-5", "1x2x3", "12.5", -1])
def test_other_image_sizes_are_refused(value: int | str) -> None:
    with pytest.raises(UsageError, match="image_size="):
        parse_image_size(value)


@settings(deadline=None)
@given(VALID)
def test_saved_and_loaded_it_is_the_same(tmp_path_factory, values: dict) -> None:
    path = tmp_path_factory.getbasetemp() / "round_trip.yaml"
    config = Config.for_model("efficientdet-d0").override(values)
    config.save(path)
    assert Config.for_model("efficientdet-d7x").override(load_yaml(path)) == config
    assert yaml.safe_load(path.read_text()) == config.to_dict()


def test_an_override_leaves_the_original_alone() -> None:
    config = Config()
    config.override({"aspect_ratios": [1.0], "nms_configs.sigma": 0.1, "seed": 3})
    assert config == Config()


@pytest.mark.parametrize("name", MODELS)
def test_every_model_round_trips(name: str, tmp_path: Path) -> None:
    config = Config.for_model(name)
    config.save(tmp_path / "config.yaml")
    assert Config().override(load_yaml(tmp_path / "config.yaml")) == config
    assert config.num_anchors == 9 and config.levels[0] == 3


def test_an_unknown_model_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'efficientdet-d0'"):
        Config.for_model("efficientdet_d0")


def test_the_models_are_automl_s(shared: Path) -> None:
    golden = json.loads((shared / "golden/automl/model_stats.json").read_text())
    assert MODELS.keys() == golden.keys()
    for name, stats in golden.items():
        config = Config.for_model(name)
        assert list(config.image_hw) == stats["image_size"], name
        for key, value in stats["hparams"].items():
            if key == "fpn_weight_method":  # null stands for the configuration's own choice
                value = value or ("sum" if name[-2:] in ("d6", "d7", "7x") else "fastattn")
            if key in ("mean_rgb", "stddev_rgb"):
                value = pytest.approx(value if isinstance(value, list) else [value] * 3)
            assert getattr(config, key) == value, (name, key)


def test_a_recipe_is_found_from_any_folder(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the caller first, then in the project, then in its configs/."""
    monkeypatch.chdir(tmp_path)
    recipe = load_yaml(root / "configs/kitti_d0.yaml")
    assert parse_hparams("configs/kitti_d0.yaml") == parse_hparams("kitti_d0.yaml") == recipe
    (tmp_path / "kitti_d0.yaml").write_text("num_epochs: 1\n")
    assert parse_hparams("kitti_d0.yaml") == {"num_epochs": 1}
    assert parse_hparams("configs/kitti_d0.yaml") == recipe
    with pytest.raises(UsageError) as caught:
        parse_hparams("configs/kiti.yaml")
    assert str(caught.value).endswith(f"; looked in {tmp_path}, {root}, {root / 'configs'}")
    with pytest.raises(UsageError, match="/no/such.yaml: No such file .* of hyper-parameters$"):
        parse_hparams("/no/such.yaml")


def test_hparams_add_up() -> None:
    assert parse_hparams([]) == parse_hparams([""]) == {}
    assert parse_hparams(["a=1,b=2", "", "b=3"]) == {"a": 1, "b": 3}


def test_the_recipes_in_configs_load(root: Path) -> None:
    recipes = [path for path in (root / "configs").glob("*.yaml") if "coco_to" not in path.name]
    assert recipes
    for path in recipes:
        values = parse_hparams(str(path))
        config = Config().override(values)
        assert dataclasses.asdict(config) != dataclasses.asdict(Config())
        of_kitti = path.name.startswith("kitti_")
        assert config.best_metric == ("kitti/moderate_R40" if of_kitti else "AP")


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


DEEP = "[" * 150 + "]" * 150


@pytest.mark.parametrize(
    "typed",
    [
        "num_epochs=" + "9" * 5000,
        "num_epochs=0x" + "f" * 5000,  # a number that Python does not write out
        "image_size=0x" + "f" * 5000,
        "image_size=" + "9" * 5000,
        "learning_rate=0x" + "f" * 5000,
        "mean_rgb=0x" + "f" * 5000,
        "grid_mask=0x" + "f" * 5000,
        f"label_map={DEEP},seed=x",
        f"num_epochs={DEEP}",
        f"nms_configs={DEEP}",
        "num_epochs=" + "[" * 100_000 + "]" * 100_000,
        "num_epochs=" + "[1," * 60_000,
        "num_epochs=" + "-" * 9000 + "1",
        "num_epochs=1" + "+1" * 4000 + "+1j",
        "num_epochs=9**9**9",
        "aspect_ratios=" + "*".join("1" * 4000),
        "aspect_ratios=" + "*".join("1" * 60_000),
        "learning_rate=1e400",
        "learning_rate=-inf",
        "learning_rate=.nan",
        "mean_rgb=nan*nan*nan",
        "num_epochs=...",
        "num_epochs={1,2}",
        "nms_configs={(1, 2): 3}",
        "name=a\0b",
        "a\nb=1",
        "x\0.yaml",
        "y" * 5000 + ".yaml",
        "y" * 5000 + "=1",
        "y" * 50_000,
        "\udcff=1",
        "label_map.a\nb=1,seed=x",
        "var_freeze_expr=" + "(" * 4000 + ")" * 4000,
    ],
)
def test_a_trap_on_the_command_line_is_one_line(typed: str, said: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        Config().override(parse_hparams(typed))
    for line in (str(caught.value), *said):
        assert "\n" not in line and len(line) < 1300


KEYS = st.sampled_from(
    [
        "seed",
        "name",
        "mean_rgb",
        "nms_configs",
        "nms_configs.sigma",
        "label_map",
        "device",
        "grid_mask",
    ]
) | st.text(max_size=5)
VALUES = st.sampled_from(
    ["1e400", "0x" + "f" * 4000, "[" * 99, "]", "{1:2}", "1*", "'", "\\", "x.yaml"]
)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(st.lists(st.tuples(KEYS, VALUES | st.text(max_size=8)), max_size=4))
def test_any_hparams_are_taken_or_refused(pairs: list[tuple[str, str]]) -> None:
    try:
        Config().override(parse_hparams(",".join(map("=".join, pairs))))
    except UsageError as error:
        assert "\n" not in str(error)


def test_a_trap_in_a_file_is_one_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "folder.yaml").mkdir()
    for name, why in {"pipe.yaml": "no ordinary file", "folder.yaml": "a folder"}.items():
        with pytest.raises(UsageError, match=f"{name}: this is {why}; expected a YAML file of hyp"):
            parse_hparams(str(tmp_path / name))
    for text, why in {
        "learning_rate: .inf": "learning_rate=inf: expected float",
        "learning_rate: .nan": "learning_rate=nan: expected float",
        "num_epochs: 2024-13-45": "num_epochs='2024-13-45': expected int",
        "seed: 1\nseed: 2": "trap.yaml:2: not readable as YAML: the key 'seed' stands twice",
        "true: 1": "unknown hyper-parameter 'True'",
        "3: 1": "unknown hyper-parameter '3'",
        "seed: &a [*a]": "nested more than 50 deep",
        "momentum: 7": "momentum=7.0: expected a number in [0, 1)",
        "nms_configs: {sigma: -1}": "nms_configs.sigma=-1.0: expected a number in [0, inf)",
        "grid_mask: {a: " + "[" * 40 + "]" * 40 + "}": "grid_mask",
    }.items():
        (tmp_path / "trap.yaml").write_text(text)
        with pytest.raises(UsageError) as caught:
            Config().override(parse_hparams(str(tmp_path / "trap.yaml")))
        assert why in str(caught.value) and "\n" not in str(caught.value)


def test_the_defaults_of_every_model_lie_in_their_ranges() -> None:
    for name in MODELS:
        Config.for_model(name)  # checks itself
