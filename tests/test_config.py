"""The configuration: values of their types, models, and what comes back from config.yaml."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientdet.config import MODELS, Config, load_yaml, parse_hparams, parse_image_size
from efficientdet.errors import UsageError

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


def test_the_recipes_in_configs_load(root: Path) -> None:
    recipes = [path for path in (root / "configs").glob("*.yaml") if "coco_to" not in path.name]
    assert recipes
    for path in recipes:
        values = parse_hparams(str(path))
        config = Config().override(values)
        assert dataclasses.asdict(config) != dataclasses.asdict(Config())
        of_kitti = path.name.startswith("kitti_")
        assert config.best_metric == ("kitti/moderate_R40" if of_kitti else "AP")
