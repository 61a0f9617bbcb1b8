"""Which evaluation of a run is the best, whoever made it and on how many images."""

from pathlib import Path

import numpy as np
import pytest

from efficientdet.errors import UserError
from efficientdet.run.checkpoints import CheckpointManager, Progress, hold
from efficientdet.run.metrics_log import MetricsLog
from efficientdet.run.scoreboard import Scoreboard, evaluator_log

TWO = ("training", "evaluator")


class Board:
    """A run of steps 1, 2, ..., each evaluated as a training process or an evaluator would."""

    def __init__(self, folder: Path, metric: str = "AP"):
        self.folder, self.step = folder, 0
        self.checkpoints = CheckpointManager(folder)
        self.scoreboard = Scoreboard(self.checkpoints, metric)
        (folder / "eval").mkdir()
        self.logs = {"training": MetricsLog(folder / "metrics.jsonl")}
        self.logs["evaluator"] = evaluator_log(folder)

    def evaluate(self, value: float, num_images: int | None = 9, by: str = "training") -> None:
        self.step += 1
        self.checkpoints.save({"weight": np.array(1.0)}, Progress(step=self.step))
        metrics = {"AP": value} | ({"num_images": num_images} if num_images else {})
        with hold(self.checkpoints.prefix(self.step)) as checkpoint:
            self.scoreboard.keep_if_best(checkpoint, metrics)
        self.logs[by].append("eval", self.step, 1.0, metrics)

    @property
    def best(self) -> int | None:
        found = [int(path.stem[11:]) for path in (self.folder / "archive").glob("*.index")]
        return found[0] if found else None


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


def test_both_writers_are_compared(board: Board) -> None:
    for value, by in (
        (0.3, "training"),
        (0.2, "evaluator"),
        (0.4, "evaluator"),
        (0.35, "training"),
    ):
        board.evaluate(value, by=by)
    assert board.best == 3
    assert [record["step"] for record in board.scoreboard.records()] == [1, 2, 3, 4]
    assert board.scoreboard.evaluations_since_best() == 1


def test_a_part_of_the_images_is_no_best_beside_all_of_them(board: Board, said: list[str]) -> None:
    board.evaluate(0.9, num_images=2)
    assert board.best == 1  # there is nothing else
    board.evaluate(0.3)
    assert board.best == 2  # the first on all images, however good a part was
    board.evaluate(0.8, num_images=2)
    assert board.best == 2
    assert said[-1] == (
        "step 3 cannot be the best: evaluated on 2 images, and there are evaluations of 9"
    )
    board.evaluate(0.2)
    board.evaluate(0.1)
    assert board.best == 2 and board.scoreboard.evaluations_since_best() == 2


def test_older_lines_do_not_say_on_how_many_images(board: Board) -> None:
    board.evaluate(0.5, num_images=None)
    board.evaluate(0.4)
    assert board.best == 1
    board.evaluate(0.6)
    assert board.best == 3


def test_what_was_evaluated_is_known(board: Board) -> None:
    assert board.scoreboard.evaluations_since_best() == 0
    board.evaluate(0.5, num_images=4, by="evaluator")
    board.evaluate(0.5, num_images=None)
    has = board.scoreboard.has
    assert has(1) and has(1, 4) and has(2, 9)
    assert not has(1, 9) and not has(3)
    board.scoreboard.truncate(0)
    assert not has(1) and not has(2)


def test_of_a_loss_the_least_is_the_best(tmp_path: Path) -> None:
    board = Board(tmp_path, metric="val_det_loss")
    with pytest.raises(UserError, match="--best_metric=val_det_loss: no such metric; there are AP"):
        board.evaluate(0.1)
    for step, value in ((1, 2.0), (2, 1.0), (3, float("nan"))):
        board.checkpoints.save({"weight": np.array(1.0)}, Progress(step=step))
        with hold(board.checkpoints.prefix(step)) as checkpoint:
            board.scoreboard.keep_if_best(checkpoint, {"val_det_loss": value})
        board.logs["training"].append("eval", step, 1.0, {"val_det_loss": value})
    assert board.best == 2


def test_a_line_has_changes_against_the_best_of_each(board: Board) -> None:
    name = "kitti/moderate_R40"
    assert board.scoreboard.best_line() is None
    first = {"AP": 0.3, "AP50": 0.6, name: 0.5, "num_images": 9}
    line = board.scoreboard.line(first, True)
    assert line == "AP 30.00  AP50 60.00  KITTI moderate 50.00  best so far"
    board.evaluate(0.3)
    for metrics in (first, first | {"AP": 0.2, name: 0.6}, first | {"AP": 0.9, "num_images": 2}):
        board.logs["training"].append("eval", 2, 1.0, metrics)
    line = board.scoreboard.line({"AP": 0.315, "AP50": 0.5, name: 1.0, "num_images": 9}, True)
    assert line == (
        "AP 31.50 (+1.50)  AP50 50.00 (-10.00)  KITTI moderate 100.00 (+40.00)  best so far"
    )
    assert board.scoreboard.best_line() == f"best AP: 30.00 % at step 1, in {board.folder}/archive"
    line = board.scoreboard.line({"AP": 0.29999, "num_images": 9}, False)
    assert line == "AP 30.00 (+0.00)"  # no -0.00


def test_the_metric_that_decides_is_in_the_line(tmp_path: Path) -> None:
    board = Board(tmp_path, metric="val_det_loss")
    board.logs["training"].append("eval", 1, 1.0, {"AP": 0.1, "val_det_loss": 2.0})
    board.logs["training"].append("eval", 2, 1.0, {"AP": None, "val_det_loss": 1.5})
    line = board.scoreboard.line({"AP": 0.1, "val_det_loss": 1.25}, True)
    assert line == "AP 10.00 (+0.00)  val_det_loss 1.2500 (-0.2500)  best so far"
