"""results.csv and results.png, whatever way a run has gone."""

import csv
from pathlib import Path

from efficientdet.inference.results_files import ResultsFiles, write_results
from efficientdet.run.metrics_log import MetricsLog


def steps(folder: Path) -> list[str]:
    with (folder / "results.csv").open() as file:
        return [row["step"] for row in csv.DictReader(file)]


def evaluated(folder: Path, *numbers: int) -> MetricsLog:
    log = MetricsLog(folder / "metrics.jsonl")
    for step in numbers:
        log.append("eval", step, step / 4, {"AP": step / 100})
    return log


def test_a_run_without_evaluations_has_neither(tmp_path):
    write_results(tmp_path)
    assert not [*tmp_path.iterdir()]


def test_a_row_more_after_each_evaluation(tmp_path):
    files, log = ResultsFiles(tmp_path), evaluated(tmp_path, 4)
    files.on_evaluation(4, 1, {}, {})
    assert steps(tmp_path) == ["4"]
    before = (tmp_path / "results.png").read_bytes()
    log.append("eval", 8, 2.0, {"AP": 0.5})
    files.on_evaluation(8, 2, {}, {})
    assert steps(tmp_path) == ["4", "8"]
    assert (tmp_path / "results.png").read_bytes() != before


def test_a_resumed_run_and_one_that_went_back_have_no_rows_of_the_future(tmp_path):
    log = evaluated(tmp_path, 4, 8, 12)
    write_results(tmp_path)
    log.truncate(8)
    files = ResultsFiles(tmp_path)
    files.on_epoch(2, 0, 4, 9, compiles=False)
    assert steps(tmp_path) == ["4", "8"]
    files.on_step(9, 2.25, {})
    files.on_step(10, 2.5, {})
    log.truncate(4)
    files.on_step(5, 1.25, {})
    assert steps(tmp_path) == ["4"]


def test_nothing_new_leaves_the_files_alone(tmp_path):
    evaluated(tmp_path, 4)
    write_results(tmp_path)
    before = [(tmp_path / name).stat().st_ino for name in ("results.csv", "results.png")]
    write_results(tmp_path)
    assert [(tmp_path / n).stat().st_ino for n in ("results.csv", "results.png")] == before
