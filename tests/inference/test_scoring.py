"""What `--mode=eval` leaves in a run, beside a training that may be going on."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.util import event_pb2

from efficientdet.checkpoint.bundle import write_bundle
from efficientdet.config import Config
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UsageError, UserError
from efficientdet.inference import scoring
from efficientdet.inference.scoring import EvaluateOptions
from efficientdet.run.checkpoints import CheckpointManager, Progress
from efficientdet.run.directory import RunDirectory
from efficientdet.run.metrics_log import MetricsLog

PICTURES = {"predicted_and_true": np.zeros((8, 8, 3), np.uint8)}


class Killed(BaseException):
    """Ends a watch."""


class Run:
    """A run of four steps an epoch, and an evaluation whose AP is the checkpoint's weight."""

    def __init__(self, path: Path, said: list[str]):
        self.path, self.said = path, said
        self.checkpoints = CheckpointManager(path, keep=2)
        self.write("AP")
        self.num_images, self.meanwhile = 9, lambda: None

    def write(self, best_metric: str) -> None:
        values = {"num_classes": 8, "best_metric": best_metric}
        config = Config.for_model("efficientdet-d0").override(values)
        RunDirectory(self.path).write(config, LabelMap.kitti())

    def save(self, step: int, ap: float) -> None:
        progress = Progress(step, step // 4, step % 4, steps_per_epoch=4)
        self.checkpoints.save({"weight": np.array(ap)}, progress)

    def evaluate(self, **how: object) -> None:
        scoring.evaluate(EvaluateOptions(str(self.path), "val.record", **how))

    def lines(self) -> list[tuple[int, float, float]]:
        """(step, epoch, AP) of every line that the evaluator wrote."""
        log = MetricsLog(self.path / "eval" / "metrics.jsonl")
        return [(line["step"], line["epoch"], line["AP"]) for line in log.read("eval")]

    def points(self) -> list[int]:
        """Steps of the AP in TensorBoard's events."""
        found = []
        for path in sorted((self.path / "eval").glob("events.out.tfevents.*")):
            for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                event = event_pb2.Event.FromString(record)
                found += [event.step for value in event.summary.value if value.tag == "AP"]
        return found

    @property
    def best(self) -> list[str]:
        return [path.name for path in (self.path / "archive").glob("*.index")]


class Detector:
    """The network is left out: the AP is the checkpoint's weight."""

    def load(self, path: str | Path, *how: object) -> None:
        self.weight = float(tf.train.load_checkpoint(str(path)).get_tensor("weight"))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]) -> Run:
    """An evaluation reads its AP from the checkpoint."""
    run = Run(tmp_path / "run", said)

    def load_detector(config: Config, path: str | Path, *how: object) -> Detector:
        detector = Detector()
        detector.load(path)
        return detector

    class Evaluation:
        def __init__(self, validator: object, folder: Path, verbose: bool):
            run.verbose = verbose
            self.kept = (folder / "thresholds.json",)

        def __call__(self, detector: Detector, checkpoint: str | Path) -> SimpleNamespace:
            run.meanwhile()
            self.kept[0].parent.mkdir(exist_ok=True)
            self.kept[0].write_text(str(checkpoint))
            metrics = {"AP": detector.weight, "num_images": run.num_images}
            return SimpleNamespace(metrics=metrics, pictures=PICTURES)

        def written(self, evaluated: SimpleNamespace) -> AbstractContextManager:
            return nullcontext()

    records = SimpleNamespace(label_map=LabelMap.kitti(), num_examples=9, files=[], manifest=None)
    monkeypatch.setattr(scoring.RecordSet, "open", lambda *args: records)
    monkeypatch.setattr(scoring, "load_detector", load_detector)
    monkeypatch.setattr(scoring, "EpochEvaluation", Evaluation)
    validator = SimpleNamespace(metric_names=["AP", "AP50"])
    monkeypatch.setattr(scoring, "Validator", lambda *args, **how: validator)
    return run


def watching(*steps: Callable[[], None]) -> Callable[[float], None]:
    """Stands for `time.sleep`: training does one of `steps` in each; then the watch is ended."""
    left = list(steps)

    def sleep(seconds: float) -> None:
        if not left:
            raise Killed
        left.pop(0)()

    return sleep


def test_an_evaluation_is_a_point_a_line_and_the_best(run: Run) -> None:
    run.save(6, 0.25)
    run.evaluate()
    assert run.lines() == [(6, 1.5, 0.25)] and run.points() == [6]
    assert run.best == ["model.ckpt-6.index"]
    best = json.loads((run.path / "archive" / "best_eval.txt").read_text())
    assert (best["best_metric"], best["step"], best["AP"]) == ("AP", 6, 0.25)
    assert (run.path / "archive" / "thresholds.json").read_text() == str(run.path / "model.ckpt-6")
    assert not (run.path / "metrics.jsonl").exists()  # training's own


def test_the_best_can_be_evaluated_again(run: Run) -> None:
    with pytest.raises(UserError, match="run/archive: no best checkpoint"):
        run.evaluate(best=True)
    run.save(4, 0.9)
    run.evaluate()
    run.save(8, 0.5)
    run.num_images = 10
    run.evaluate(best=True)
    assert run.lines() == [(4, 1.0, 0.9), (4, 1.0, 0.9)]  # the second one on more images
    assert (run.path / "eval" / "thresholds.json").read_text().endswith("archive/model.ckpt-4")
    rows = (run.path / "results.csv").read_text().splitlines()
    assert [row.split(",")[:3] for row in rows[1:]] == [["1", "4", "9"], ["1", "4", "10"]]
    assert (run.path / "results.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("where", ["metrics.jsonl", "eval/metrics.jsonl"])
def test_a_step_is_on_the_curve_once(run: Run, where: str) -> None:
    run.save(6, 0.25)
    (run.path / "eval").mkdir()
    MetricsLog(run.path / where).append("eval", 6, 1.5, {"AP": 0.25, "num_images": 9})
    before = run.lines()
    run.evaluate()
    run.evaluate(ckpt=str(run.path / "model.ckpt-6"))
    assert run.lines() == before and not run.points()
    assert run.said.count("step 6 is on the curve already: no second point") == 2


def test_a_watch_draws_the_curve(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begun before training was, and killed; the next one goes on."""
    said = (lambda: run.save(4, 0.1), lambda: None, lambda: run.save(8, 0.4),
            lambda: run.save(12, 0.3))  # fmt: skip
    monkeypatch.setattr(scoring.time, "sleep", watching(*said))
    with pytest.raises(Killed):
        run.evaluate(watch=True)
    with (run.path / "eval" / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "eval", "st')  # killed while it wrote
    run.save(16, 0.2)
    monkeypatch.setattr(scoring.time, "sleep", watching())
    with pytest.raises(Killed):
        run.evaluate(watch=True)
    assert run.lines() == [(4, 1.0, 0.1), (8, 2.0, 0.4), (12, 3.0, 0.3), (16, 4.0, 0.2)]
    assert sorted(run.points()) == [4, 8, 12, 16]
    assert run.best == ["model.ckpt-8.index"]
    assert run.said[0] == f"{run.path}: no checkpoint yet; looking again every 180 seconds"


def test_training_drops_what_is_evaluated(run: Run) -> None:
    run.save(4, 0.5)
    run.meanwhile = lambda: [run.save(step, 0.1) for step in (8, 12)]
    run.evaluate()
    assert run.checkpoints.steps() == [8, 12]
    assert run.lines() == [(4, 1.0, 0.5)] and run.best == ["model.ckpt-4.index"]


def test_training_drops_what_was_about_to_be_read(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = scoring.load_detector

    def late(config: Config, path: Path, *how: object) -> Detector:
        if path.name == "model.ckpt-4":
            run.save(8, 0.2)
            run.save(12, 0.3)
            raise UserError(f"{path}: no such file")
        return load(config, path)

    monkeypatch.setattr(scoring, "load_detector", late)
    run.save(4, 0.1)
    run.evaluate()
    assert run.lines() == [(12, 3.0, 0.3)]
    assert f"{run.path}/model.ckpt-4 is gone, training has newer ones" in run.said


def test_a_damaged_checkpoint_is_an_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **how: object) -> None:
        raise UserError("damaged")

    monkeypatch.setattr(scoring, "load_detector", fail)
    run.save(4, 0.1)
    with pytest.raises(UserError, match="damaged"):
        run.evaluate()


@pytest.mark.parametrize("name", ["model.ckpt-4", "model"])
def test_another_checkpoint_leaves_curve_and_archive_alone(run: Run, name: str) -> None:
    run.save(4, 0.1)
    run.evaluate()
    other = Run(run.path.parent / "other", [])
    other.save(4, 0.9)
    for path in other.path.glob("model.ckpt-4.*"):
        path.rename(path.with_name(path.name.replace("model.ckpt-4", name)))
    ckpt = str(other.path / name)
    run.evaluate(ckpt=ckpt)
    assert run.lines() == [(4, 1.0, 0.1)] and run.points() == [4]
    assert (run.path / "eval" / "thresholds.json").read_text() == ckpt
    archived = tf.train.load_checkpoint(str(run.path / "archive" / "model.ckpt-4"))
    assert archived.get_tensor("weight") == 0.1
    assert run.said[-1] == (
        f"{ckpt} was not trained in {run.path}: no part in its curve and archive"
    )


def test_a_part_is_on_the_curve_until_all_are_evaluated(run: Run) -> None:
    run.save(4, 0.9)
    run.num_images = 2
    run.evaluate(eval_samples=2)
    run.save(8, 0.5)
    run.num_images = 9
    run.evaluate()
    assert run.best == ["model.ckpt-8.index"]
    run.save(12, 0.95)
    run.num_images = 2
    run.evaluate(eval_samples=2)
    assert run.best == ["model.ckpt-8.index"] and [step for step, *_ in run.lines()] == [4, 8, 12]
    run.num_images = 9
    run.evaluate()  # now on all images: this one counts
    assert run.best == ["model.ckpt-12.index"]


def test_the_best_metric_of_an_evaluation(run: Run) -> None:
    run.save(4, 0.1)
    with pytest.raises(UsageError, match="--best_metric=mAP: these validation records have no"):
        run.evaluate(hparams={"best_metric": "mAP"})
    run.write("kitti/moderate_R40")
    run.evaluate()  # the run's metric is none of these records: the curve goes on
    assert run.lines() == [(4, 1.0, 0.1)] and not run.best
    assert any("no checkpoint is kept as the best: --best_metric=kitti" in s for s in run.said)


def test_a_checkpoint_of_another_program_has_no_epoch(run: Run) -> None:
    run.save(4, 0.1)
    for path in run.path.glob("model.ckpt-4.*"):
        path.unlink()
    write_bundle(run.path / "model.ckpt-7", {"weight": np.array(0.3), "global_step": np.int64(7)})
    run.evaluate()
    assert run.lines() == [(7, None, 0.3)] and run.best == ["model.ckpt-7.index"]
