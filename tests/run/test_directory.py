"""A run goes on as it began: what may change is told, what may not is refused."""

from pathlib import Path

import pytest

from efficientdet.config import Config, load_yaml
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UsageError, UserError
from efficientdet.run.directory import RunDirectory

MAP = LabelMap((("Car", "Van"), ("Pedestrian",)))


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "run")


def test_a_new_run_takes_its_classes_from_the_records(run: RunDirectory) -> None:
    config = run.config("efficientdet-d0", {"learning_rate": 0.1}, MAP)
    assert (config.name, config.num_classes, config.learning_rate) == ("efficientdet-d0", 2, 0.1)
    assert not run.exists and run.label_map(None) == LabelMap.kitti()
    assert run.config(None, {}, MAP).name == "efficientdet-d1"  # AutoML's default


def test_what_was_written_is_read_back(run: RunDirectory, said: list[str]) -> None:
    config = run.config("efficientdet-d0", {"image_size": "512x160", "nms_configs.sigma": 0.3}, MAP)
    run.write(config, MAP)
    assert run.exists
    assert run.config("efficientdet-d0", {}, run.label_map(MAP)) == config
    assert run.config(None, {}, run.label_map(None)) == config
    assert not said


def test_a_change_on_the_way_is_told(run: RunDirectory, said: list[str]) -> None:
    run.write(run.config("efficientdet-d0", {}, MAP), MAP)
    config = run.config(None, {"num_epochs": 7, "nms_configs.sigma": 0.3}, MAP)
    assert config.num_epochs == 7 and config.nms_configs.sigma == 0.3
    assert said == [
        "changed since the run began: num_epochs 300 -> 7",
        "changed since the run began: nms_configs.sigma None -> 0.3",
    ]
    assert load_yaml(run.path / "config.yaml")["num_epochs"] == 300  # told, not yet written


@pytest.mark.parametrize(
    ("name", "overrides", "named"),
    [
        (
            "efficientdet-d2",
            {},
            "a run of efficientdet-d0, --model_name says efficientdet-d2",
        ),
        (None, {"anchor_scale": 2.0}, "says anchor_scale=4.0, the command line says 2.0"),
        (None, {"optimizer": "adam"}, "optimizer='sgd', the command line says 'adam'"),
    ],
)
def test_another_network_is_refused(
    run: RunDirectory, name: str | None, overrides: dict, named: str
) -> None:
    run.write(run.config("efficientdet-d0", {}, MAP), MAP)
    with pytest.raises(UserError, match="take another --model_dir") as caught:
        run.config(name, overrides, MAP)
    assert named in str(caught.value)


def test_the_number_of_classes_is_the_records_matter(run: RunDirectory) -> None:
    assert run.config(None, {"num_classes": 2}, MAP).num_classes == 2
    with pytest.raises(
        UsageError, match=r"num_classes=90, .* 2 classes \(1: Car\+Van, 2: Pedestrian\)"
    ):
        run.config(None, {"num_classes": 90}, MAP)


def test_another_label_map_is_refused(run: RunDirectory) -> None:
    run.write(run.config("efficientdet-d0", {}, MAP), MAP)
    with pytest.raises(
        UserError, match=r"1: Car\+Van, 2: Pedestrian, the records were made with 1: Car, "
    ):
        run.label_map(LabelMap((("Car",), ("Pedestrian",), ("Van",))))


def test_automl_s_own_config_yaml_is_understood(run: RunDirectory, said: list[str]) -> None:
    run.path.mkdir()
    (run.path / "config.yaml").write_text(
        "name: efficientdet-d0\nact_type: swish\nimage_size: 1280x384\nnum_classes: 90\n"
        "fpn_weight_method: null\nmoving_average_decay: 0.999\nstrategy: tpu\nlabel_map: {1: Car}\n"
        "nms_configs:\n  method: gaussian\n  pyfunc: true\n  sigma: null\n"
    )
    config = run.config(None, {}, MAP)
    assert config.image_hw == (384, 1280) and config.fpn_weight_method == "fastattn"
    assert config.num_classes == 2  # of the records; --ckpt_classes picks logits
    assert said == [
        f"{run.path}/config.yaml: not used here: strategy, label_map.1, nms_configs.pyfunc"
    ]


def test_a_spoilt_config_yaml_is_named(run: RunDirectory) -> None:
    run.path.mkdir()
    (run.path / "config.yaml").write_text("name: efficientdet-d0\nnum_epochs: soon\n")
    with pytest.raises(UserError, match="config.yaml: num_epochs='soon': expected int"):
        run.config(None, {}, MAP)


def test_every_structural_key_is_a_hyper_parameter() -> None:
    from efficientdet.run.directory import STRUCTURE

    assert set(STRUCTURE) <= Config().to_dict().keys()
