"""metrics.jsonl after crashes: torn lines, lines from after the checkpoint, no NaN."""

import json
import math
from pathlib import Path

import pytest

from efficientdet.run.metrics_log import MetricsLog


@pytest.fixture
def log(tmp_path: Path) -> MetricsLog:
    """Training at steps 10, 20, 30, evaluated at 20."""
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append("train", 10, 0.5, {"loss": 2.0})
    log.append("train", 20, 1.0, {"loss": 1.0})
    log.append("eval", 20, 1.0, {"AP": 0.25})
    log.append("train", 30, 1.5, {"loss": 0.5})
    return log


def steps(log: MetricsLog) -> list[int]:
    return [record["step"] for record in log.read()]


def test_one_object_a_line(log: MetricsLog) -> None:
    lines = log.path.read_text().splitlines()
    assert lines[2] == '{"kind": "eval", "step": 20, "epoch": 1.0, "AP": 0.25}'
    assert [json.loads(line) for line in lines] == log.read()
    assert log.read("eval") == [{"kind": "eval", "step": 20, "epoch": 1.0, "AP": 0.25}]
    assert MetricsLog(log.path.with_name("none.jsonl")).read() == []


def test_what_is_not_a_number_is_null(log: MetricsLog) -> None:
    """JSON has no NaN: jq and JavaScript would refuse the line."""
    log.append("eval", 40, 2.0, {"AP": math.nan, "AP50": math.inf, "AP75": 0.5, "count": 3})
    line = json.loads(log.path.read_text().splitlines()[-1], parse_constant=pytest.fail)
    assert line["AP"] is line["AP50"] is None and line["AP75"] == 0.5 and line["count"] == 3


@pytest.mark.parametrize(("step", "kept"), [(20, [10, 20, 20]), (19, [10]), (99, [10, 20, 20, 30])])
def test_lines_after_the_checkpoint_are_dropped(log: MetricsLog, step: int, kept: list) -> None:
    log.truncate(step)
    assert steps(log) == kept
    log.append("train", step + 1, 2.0, {})
    assert steps(log) == [*kept, step + 1]


def test_nothing_to_drop_leaves_the_file_alone(log: MetricsLog) -> None:
    before = log.path.stat().st_ino
    log.truncate(30)
    assert log.path.stat().st_ino == before
    MetricsLog(log.path.with_name("none.jsonl")).truncate(5)
    assert [path.name for path in log.path.parent.iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize(
    "tail", ['{"kind": "tra', "\0\0\0", '{"kind": "train", "step": 40}', "{", '"']
)
def test_a_torn_last_line_costs_only_itself(log: MetricsLog, tail: str) -> None:
    """Torn off by a crash, with or without the end of the line."""
    whole = log.path.read_text()
    for end in ("", "\n"):
        log.path.write_text(whole + tail + end)
        assert steps(log)[:4] == [10, 20, 20, 30]
        log.truncate(30)
        assert log.path.read_text() == whole
        log.append("train", 31, 1.5, {})
        assert steps(log) == [10, 20, 20, 30, 31]


def test_bytes_that_are_no_text_are_a_torn_line(log: MetricsLog) -> None:
    with log.path.open("ab") as file:
        file.write(b'{"kind": "\xff\xfe')
    assert steps(log) == [10, 20, 20, 30]
    log.truncate(30)
    assert steps(log) == [10, 20, 20, 30]
