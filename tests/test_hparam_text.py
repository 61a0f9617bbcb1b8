"""Hyper-parameters as people type them, and every trap in that text."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientdet.config import Config, NmsConfig, load_yaml, parse_hparams
from efficientdet.errors import UsageError


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
