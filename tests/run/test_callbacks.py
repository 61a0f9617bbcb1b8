"""What is told while training goes on, and that none of it can be the end of a run's records."""

import io
import json
import re
import resource
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar.metadata import CONFIG_SUMMARY_TAG
from tensorboard.plugins.hparams import metadata
from tensorflow.core.util import event_pb2

from efficientdet.backend import resident_mb
from efficientdet.dataset.kitti import BENCHMARK, KittiObject
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UserError
from efficientdet.evaluation.evaluate import evaluate
from efficientdet.evaluation.frames import FrameTruth
from efficientdet.run import dashboard
from efficientdet.run.callbacks import Callback, MetricsFile, TensorBoard, is_summary
from efficientdet.run.metrics_log import MetricsLog
from efficientdet.training.progress_bar import ProgressBar, fields

NAN = float("nan")
LOSSES = ("cls_loss", "box_loss", "det_loss", "reg_l2_loss", "loss")
AUTOML_TAGS = {f"trainloss/{name}" for name in LOSSES} | {
    "lrn_rate", "train_epochs", "clip/gradient_norm"
}  # fmt: skip


def logs(value: float = 1.0, **changes: float) -> dict[str, float]:
    return {
        **dict.fromkeys(LOSSES, value),
        "gradient_norm": value,
        "num_positives": 7.0,
        "finite": float(np.isfinite(value)),
        "loss_scale": 1.0,
        "learning_rate": 0.01,
        "images_per_second": 20.0,
        "data_wait": 0.38,
    } | changes


def events(folder: Path) -> list[tuple[str, int, float | None]]:
    """(tag, step, value) of every summary in `folder`, in order; pictures have no value."""
    found = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = event_pb2.Event.FromString(record)
            for value in event.summary.value:
                scalar = value.metadata.plugin_data.plugin_name == "scalars"
                number = float(tf.make_ndarray(value.tensor)) if scalar else None
                found.append((value.tag, event.step, number))
    return found


def tell(callback: Callback, *values: float) -> None:
    """Steps 1, 2, ... of an epoch, whose losses are `values`."""
    rows = []
    for step, value in enumerate(values, start=1):
        rows.append(logs(value))
        if is_summary(step):
            callback.on_summary(step, step / len(values), rows)
            rows = []


def bar(width: int = 200, terminal: bool = False) -> tuple[ProgressBar, io.StringIO]:
    out = io.StringIO()
    return ProgressBar(Console(file=out, width=width, force_terminal=terminal)), out


def test_metrics_are_means_of_ten_steps(tmp_path: Path) -> None:
    file = MetricsFile(MetricsLog(tmp_path / "metrics.jsonl"))
    tell(file, *map(float, range(1, 25)))
    file.on_evaluation(24, 1.0, {"AP": 0.25}, {})
    first, ten, twenty, evaluation = file._log.read()
    assert [first["step"], ten["step"], twenty["step"]] == [1, 10, 20]
    assert [first["loss"], ten["loss"], twenty["loss"]] == [1.0, np.mean(range(2, 11)), 15.5]
    assert first["rss_mb"] > 10 and ten["learning_rate"] == 0.01 and ten["data_wait"] == 0.38
    assert evaluation == {"kind": "eval", "step": 24, "epoch": 1.0, "AP": 0.25}


def test_a_step_that_was_not_finite_does_not_spoil_the_mean(tmp_path: Path) -> None:
    file = MetricsFile(MetricsLog(tmp_path / "metrics.jsonl"))
    tell(file, *(NAN if step == 5 or step > 10 else 2.0 for step in range(1, 21)))
    _, ten, twenty = file._log.read()
    assert ten["loss"] == 2.0 and ten["finite"] == pytest.approx(8 / 9)
    assert twenty["loss"] is None and twenty["num_positives"] == 7.0


def test_tensorboard_has_automl_s_tags(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path)
    tell(board, *map(float, range(1, 11)))
    metrics = {"AP": 0.3, "AP_/Car": 0.4, "val_det_loss": 2.5}
    board.on_evaluation(10, 1.0, metrics, {"predicted_and_true": np.zeros((8, 8, 3), np.uint8)})
    board.close()
    train, evaluation = events(tmp_path), events(tmp_path / "eval")
    assert {tag for tag, _, _ in train} >= AUTOML_TAGS
    assert [v for tag, _, v in train if tag == "trainloss/det_loss"] == [1.0, 6.0]
    assert [v for tag, _, v in train if tag == "train_epochs"] == pytest.approx([0.1, 1.0])
    assert ("trainloss/det_loss", 10, 2.5) in evaluation  # one chart with the training loss
    assert {tag for tag, _, _ in evaluation} >= {"AP", "AP_/Car", "predicted_and_true"}


def test_every_curve_stands_in_one_chart_of_the_ordered_page(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path, {"learning_rate": 0.1, "is_training_bn": False, "ckpt": None})
    tell(board, *map(float, range(1, 11)))
    objects = [_object(kind, level) for kind in BENCHMARK for level in range(3)]
    frames = [FrameTruth("a", 99, 99, objects)]
    metrics = evaluate(frames, [], LabelMap.kitti()).metrics
    board.on_evaluation(10, 1.0, metrics | {"val_det_loss": 2.5, "num_images": 1}, {})
    assert {"kitti/Car_hard_R11", "APs", "AP50_/Car"} <= metrics.keys()
    found = events(tmp_path) + events(tmp_path / "eval")
    curves = {tag for tag, _, value in found if value is not None}
    assert curves > AUTOML_TAGS and {"AP", "APs", "ARmax1", "AP_/Car"} < curves
    assert not any("R11" in tag or "num_images" in tag for tag in curves)
    layout = _layout(tmp_path)
    assert [page.title for page in layout.category] == [
        "loss",
        "rates",
        "COCO",
        "KITTI",
        "by class",
    ]
    patterns = [tag for page in layout.category for c in page.chart for tag in c.multiline.tag]
    for tag in curves:
        assert sum(bool(re.match(pattern, tag)) for pattern in patterns) == 1, tag
    for pattern in patterns:
        assert any(re.match(pattern, tag) for tag in curves), pattern


def test_tensorboard_has_the_config_and_its_hyper_parameters_once(tmp_path: Path) -> None:
    hparams = {
        "learning_rate": 0.1,
        "is_training_bn": False,
        "image_size": "1280x384",
        "ckpt": None,
    }
    board = TensorBoard(tmp_path, hparams)
    tell(board, *map(float, range(1, 21)))
    for step, ap in ((10, 0.3), (20, 0.4)):
        board.on_evaluation(step, 1.0, {"AP": ap}, {})
    board.close()
    tags = [tag for tag, _, _ in events(tmp_path)]
    assert tags.count("config") == 1
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(tmp_path))
    multiplexer.Reload()
    (text,) = multiplexer.Tensors(".", "config")
    assert b"    image_size: 1280x384\n" in text.tensor_proto.string_val[0]
    # Where TensorBoard looks for a metric: in the run that has the hyper-parameters, and its group.
    found = multiplexer.SummaryMetadata("eval", metadata.EXPERIMENT_TAG)
    infos = metadata.parse_experiment_plugin_data(found.plugin_data.content).metric_infos
    assert {info.name.tag for info in infos} == {*dashboard.METRICS}
    assert not any(info.name.group for info in infos)
    assert len(multiplexer.Tensors("eval", "AP")) == 2
    found = multiplexer.SummaryMetadata("eval", metadata.SESSION_START_INFO_TAG)
    values = metadata.parse_session_start_info_plugin_data(found.plugin_data.content).hparams
    assert values["learning_rate"].number_value == 0.1
    assert values["is_training_bn"].bool_value is False and values["ckpt"].string_value == "None"


@pytest.mark.parametrize(("width", "shown"), [(280, 1400), (1260, 1260), (2576, 2576)])
def test_a_small_picture_is_enlarged(tmp_path: Path, width: int, shown: int) -> None:
    picture = np.arange(2 * width * 3, dtype=np.uint8).reshape(2, width, 3)
    larger = dashboard.large(picture)
    assert larger.shape == (2 * shown // width, shown, 3)
    np.testing.assert_array_equal(larger[:: shown // width, :: shown // width], picture)


def _object(kind: str, occluded: int) -> KittiObject:
    """One of each size, each of another difficulty."""
    side = (30.0, 50.0, 120.0)[occluded]
    return KittiObject(kind, 0.0, 2 - occluded, 0, 0.0, 0.0, side, side, 1, 1, 1, 0, 1, 9, 0)


def _layout(folder: Path) -> layout_pb2.Layout:
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    (event,) = multiplexer.Tensors(".", CONFIG_SUMMARY_TAG)
    return layout_pb2.Layout.FromString(tf.make_ndarray(event.tensor_proto).item())


def test_tensorboard_on_a_full_disk_is_one_line(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(UserError, match="cannot write TensorBoard's events") as caught:
            tell(board, 1.0)
            board.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_log_file_gets_plain_lines() -> None:
    progress, out = bar()
    progress.on_epoch(0, 0, 4, 2, compiles=True)
    for step in range(1, 5):
        progress.on_step(step, step / 4, logs(2.0))
    progress.on_epoch_end()
    progress.on_epoch(1, 0, 1, 2, compiles=False)
    progress.close()
    first, last, second = out.getvalue().splitlines()
    assert first == "epoch 1/2: 4 steps; the first one compiles"
    assert last.startswith("epoch 1/2 step 4/4  det 2.000  20.0 img/s  lr 0.01  cls 2.000  box 2.0")
    assert "input-bound 38%" in last and last.endswith(" MB")
    assert second == "epoch 2/2: 1 step"
    assert "\x1b" not in out.getvalue() and "\r" not in out.getvalue()


def test_a_log_file_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 10))  # a step takes ten seconds
    monkeypatch.setattr("efficientdet.training.progress_bar.time.monotonic", lambda: next(clock))
    progress, out = bar()
    progress.on_epoch(0, 0, 13, 1, compiles=False)
    for step in range(1, 14):
        progress.on_step(step, step / 13, logs())
    words = [line.split("  ")[:2] for line in out.getvalue().splitlines()[1:]]
    assert words == [
        ["epoch 1/1 step 4/13", "0:01:30 left"],
        ["epoch 1/1 step 8/13", "0:00:50 left"],
        ["epoch 1/1 step 12/13", "0:00:10 left"],
        ["epoch 1/1 step 13/13", "det 1.000"],
    ]


@pytest.mark.parametrize("steps", [4, 1870])
@pytest.mark.parametrize("width", [60, 80, 120])
def test_bar_step_time_and_loss_are_seen_on_every_terminal(width: int, steps: int) -> None:
    progress, out = bar(width, terminal=True)
    progress.on_epoch(99, 0, steps, 300, compiles=True)
    compiling = out.getvalue()
    for step in range(1, 5):
        progress.on_step(step, 99 + step / steps, logs())
    progress.on_epoch_end()
    line = re.sub("\x1b[^a-zA-Z]*[a-zA-Z]", "", out.getvalue()).rstrip("\n").split("\r")[-1]
    line = line.split("\n")[-1].rstrip()
    assert "compiling, 0 s" in compiling and len(line) <= width and "…" not in line
    assert line.startswith("epoch 100/300 ━━━━━━━━━━") and f" 4/{steps} " in line
    assert re.search(r" \d:\d\d:\d\d det 1.000", line)
    assert width == 60 or "det 1.000  20.0 img/s" in line
    assert width < 120 or "det 1.000  20.0 img/s  lr 0.01  cls 1.000  box 1.0000" in line
    progress.close()


def test_what_does_not_compile_does_not_say_so() -> None:
    for terminal in (True, False):
        progress, out = bar(terminal=terminal)
        progress.on_epoch(1, 0, 4, 2, compiles=False)
        progress.close()
        assert "epoch 2/2" in out.getvalue() and "compil" not in out.getvalue()


def test_the_bar_goes_on_where_the_run_was_resumed() -> None:
    progress, out = bar(terminal=True)
    progress.on_epoch(2, 3, 8, 5, compiles=True)
    assert progress._bar.tasks[0].completed == 3
    for done in range(4, 9):
        progress.on_step(16 + done, 2 + done / 8, logs())
        assert progress._bar.tasks[0].completed == done
    progress.on_epoch(3, 0, 8, 5, compiles=False)
    assert progress._bar.tasks[0].completed == 0
    progress.close()
    progress.close()
    assert "epoch 3/5" in out.getvalue() and "epoch 4/5" in out.getvalue()


@pytest.mark.parametrize("steps", [1, 3, 7, 49, 748])
def test_the_bar_counts_every_step_of_an_epoch(steps: int) -> None:
    progress, _ = bar(terminal=True)
    progress.on_epoch(41, 0, steps, 50, compiles=False)
    for done in range(1, steps + 1):
        progress.on_step(41 * steps + done, 41 + done / steps, logs())
        assert progress._bar.tasks[0].completed == done
    progress.close()


def test_losses_are_smoothed_over_what_is_finite() -> None:
    progress, out = bar()
    progress.on_epoch(0, 0, 3, 1, compiles=True)
    for step, value in enumerate((1.0, NAN, 2.0), start=1):
        progress.on_step(step, step / 3, logs(value))
    assert "det 1.100" in out.getvalue()


def test_nothing_finite_yet_is_no_crash() -> None:
    progress, out = bar()
    progress.on_epoch(0, 0, 1, 1, compiles=True)
    progress.on_step(1, 1.0, logs(NAN))
    assert "det nan" in out.getvalue()


def test_memory_is_told_in_megabytes() -> None:
    before = resident_mb()
    block = np.ones(64 * 2**20, np.uint8)  # so large that no freed memory is taken again
    assert 55 < resident_mb() - before < 100 and block[0]
    assert f"{resident_mb():.0f}"[:2] in fields(logs(), 0.01)[-1]


def test_each_line_of_the_log_is_json(tmp_path: Path) -> None:
    file = MetricsFile(MetricsLog(tmp_path / "metrics.jsonl"))
    tell(file, NAN)
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line, parse_constant=pytest.fail)["loss"] is None
