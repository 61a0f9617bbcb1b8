"""Hyper-parameters as people type them, what is refused, and what comes back from config.yaml."""

import dataclasses
import json
from pathlib import Path

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

POSITIVE = st.floats(min_value=1e-6, max_value=1e6)
PAIRS = st.tuples(POSITIVE, POSITIVE)
VALID = st.fixed_dictionaries(
    {},
    optional={
        "image_size": st.integers(1, 4096)
        | st.tuples(st.integers(1, 4096), st.integers(1, 4096)).map("{0[0]}x{0[1]}".format),
        "learning_rate": POSITIVE,
        "aspect_ratios": st.lists(POSITIVE | PAIRS, min_size=1, max_size=4),
        "anchor_scale": POSITIVE | st.lists(POSITIVE, min_size=5, max_size=5),
        "mixed_precision": st.booleans(),
        "is_training_bn": st.none() | st.booleans(),
        "survival_prob": st.none() | POSITIVE,
        "var_freeze_expr": st.none() | st.text(min_size=1),
        "copy_paste_classes": st.lists(st.sampled_from(["Cyclist", "Tram", "1", "none"])),
        "mean_rgb": st.tuples(POSITIVE, POSITIVE, POSITIVE),
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
        ("optimizer=adamw", "optimizer='adamw': expected Literal['sgd', 'adam']"),
        ("mean_rgb=1.0*2.0", "mean_rgb=[1.0, 2.0]: expected tuple[float, float, float]"),
        ("aspect_ratios=[(1,2,3)]", "aspect_ratios=[(1, 2, 3)]"),
        ("nms_configs=3", "nms_configs=3: expected NmsConfig"),
        ("grad_accum_steps=0", "grad_accum_steps=0: expected at least 1"),
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
