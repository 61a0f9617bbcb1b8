"""metrics.jsonl after crashes: torn lines, lines from after the checkpoint, no NaN."""

import json
import math
import resource
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


STRANGE = (
    "5", "{}", "null", "[]", '"text"', '{"kind": "eval"}', '{"kind": 1, "step": 20}',
    '{"kind": "eval", "step": "20"}', '{"kind": "eval", "step": 20, "AP": "high"}',
    '{"kind": "eval", "step": 20, "num_images": []}', '{"kind": "eval", "step": 1e999}',
    '{"kind": "eval", "step": ' + "9" * 400 + "}", '{"kind": "eval", "step": ' + "9" * 5000 + "}",
    "[" * 9999, '{"kind":' * 9999, "\0\0", "",
)  # fmt: skip


@pytest.mark.parametrize("line", STRANGE)
def test_a_strange_line_costs_only_itself(log: MetricsLog, said: list[str], line: str) -> None:
    whole = log.path.read_text()
    lines = whole.splitlines()
    log.path.write_text("\n".join([*lines[:2], line, *lines[2:]]) + "\n")
    assert steps(log) == [10, 20, 20, 30]
    log.truncate(30)
    assert log.path.read_text() == whole
    assert said == [f"warning: {log.path}:3: no line of metrics; 1 such are dropped"]


@settings(max_examples=200, deadline=None)
@given(damage=st.lists(st.tuples(st.integers(0, 300), st.binary(max_size=6)), max_size=4))
def test_whatever_stands_in_the_file_it_is_read_and_mended(damage: list[tuple[int, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = MetricsLog(Path(folder) / "metrics.jsonl")
        for step in (10, 20, 30):
            log.append("eval", step, 0.5, {"AP": 0.25})
        content = bytearray(log.path.read_bytes())
        for place, junk in damage:
            content[place : place + 1] = junk
        log.path.write_bytes(bytes(content))
        found = log.read()
        log.truncate(math.inf)
        assert log.read() == found
        log.append("eval", 40, 1.0, {"AP": 0.5})
        assert log.read() == [*found, {"kind": "eval", "step": 40, "epoch": 1.0, "AP": 0.5}]


def test_two_processes_mix_no_lines(log: MetricsLog) -> None:
    """However long a line is, it is one write."""

    def write() -> None:
        for step in range(40, 80):
            log.append("eval", step, 1.0, {f"metric_{i}": float(i) for i in range(1500)})

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(steps(log)[4:]) == sorted([*range(40, 80), *range(40, 80)])


def test_a_full_disk_names_the_file(log: MetricsLog) -> None:
    """Also where the last bytes of a line still found room."""
    limits, size = resource.getrlimit(resource.RLIMIT_FSIZE), log.path.stat().st_size
    for room in (0, 5):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, limits[1]))
        try:
            with pytest.raises(OSError) as caught:
                log.append("train", 40, 1.0, {})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert caught.value.filename == str(log.path) and caught.value.strerror
    log.truncate(30)
    assert steps(log) == [10, 20, 20, 30]
