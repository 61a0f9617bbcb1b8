"""Runs judged on the same frames, from the detections that they stored."""

from pathlib import Path

import numpy as np
import pytest
from compared_runs import EVERY_OTHER, IDS, write_frames, write_run

from efficientdet.comparison.runs import read_runs
from efficientdet.comparison.scores import Scores, judge
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UserError


def scores_of(
    *folders: Path, pattern: Path | None = None, newest: bool = False, resamples: int = 40
) -> Scores:
    runs, _ = read_runs([str(folder) for folder in folders])
    where = str(pattern) if pattern else None
    return judge(runs, where, newest=newest, resamples=resamples)


def test_intervals_of_a_difference_are_paired_by_frame(tmp_path: Path) -> None:
    """Against a bootstrap by hand: with right boxes alone, AP is the share of recalls reached."""
    records = write_frames(tmp_path / "val.record")
    a = write_run(tmp_path / "a", records, [1] * 6)
    b = write_run(tmp_path / "b", records, EVERY_OTHER)
    scores = scores_of(a, b)
    first, second = scores.judged
    assert scores.notes == [] and first.result.metrics["AP"] == 1.0
    generator, drawn = np.random.default_rng(0), []
    for _ in range(40):
        share = EVERY_OTHER[generator.integers(6, size=6)].mean()
        drawn.append(np.mean(np.linspace(0, 1, 101) <= share) if share else 0.0)
    found = second.interval("AP", minus=first)
    assert (found.low, found.high) == pytest.approx(np.percentile(np.array(drawn) - 1, (2.5, 97.5)))
    own = first.interval("AP")
    assert (own.low, own.high) == (1.0, 1.0)
    assert scores.drawn.endswith("6 single frames (of no known drive: too narrow if they are "
                                 "neighbours)")  # fmt: skip


def test_a_run_against_itself_has_no_difference(tmp_path: Path) -> None:
    records = write_frames(tmp_path / "val.record")
    folders = [write_run(tmp_path / name, records, EVERY_OTHER) for name in "ab"]
    first, second = scores_of(*folders).judged
    found = second.interval("AP", minus=first)
    assert (found.low, found.high) == (0.0, 0.0)


def test_the_best_evaluation_goes_before_the_newest(tmp_path: Path) -> None:
    records = write_frames(tmp_path / "val.record")
    run = write_run(tmp_path / "a", records, [1] * 6)
    best = write_run(tmp_path / "other", records, EVERY_OTHER)
    (run / "archive").mkdir()
    (best / "eval/detections.npz").rename(run / "archive/detections.npz")
    assert scores_of(run, resamples=0).judged[0].result.metrics["AP"] < 1
    assert scores_of(run, newest=True, resamples=0).judged[0].result.metrics["AP"] == 1
    (run / "archive/detections.npz").write_bytes(b"half")  # said, and the other one is taken
    scores = scores_of(run, resamples=0)
    assert scores.judged[0].result.metrics["AP"] == 1
    assert "archive/detections.npz: no detections of an evaluation" in scores.notes[0]


def test_an_older_evaluation_is_read_from_what_it_left(tmp_path: Path) -> None:
    records = write_frames(tmp_path / "val.record")
    older = write_run(tmp_path / "older", records, EVERY_OTHER, is_older=True)
    assert scores_of(older).judged == ()
    scores = scores_of(older, pattern=records.files[0])
    assert scores.judged[0].step == 8 and scores.notes == []
    assert 0.4 < scores.judged[0].result.metrics["AP"] < 0.6
    newer = write_run(tmp_path / "newer", records, [1] * 6)  # it names the records
    assert [one.run.name for one in scores_of(older, newer).judged] == ["older", "newer"]


@pytest.mark.parametrize("case", ["records", "classes", "none", "gone", "part", "strange", "ckpt"])
def test_what_does_not_compare_is_said(tmp_path: Path, case: str) -> None:
    records = write_frames(tmp_path / "val.record")
    a, b = write_run(tmp_path / "a", records, [1] * 6), tmp_path / "b"
    judged, pattern = ["a"], None
    if case == "records":
        others = write_frames(tmp_path / "other.record", IDS[:5])
        write_run(b, others, [1] * 5, source_ids=IDS[:5])
        note = "b was evaluated on other records (other.record, "
    elif case == "classes":
        write_run(b, records, [1] * 6, label_map=LabelMap((("Car",),)))
        note = "b has the classes 1: Car, val.record has 1: Car, 2: Pedestrian: it is not compared"
    elif case == "none":
        write_run(b, records)
        note = "b has no evaluation yet: it has no part in the comparison"
    elif case == "gone":
        write_run(b, records, [1] * 6)
        records.files[0].unlink()
        judged, note = [], "val.record is not there any more"
    elif case == "part":
        write_run(b, records, [1] * 4, source_ids=IDS[:4])
        judged, note = ["a", "b"], "(a 6, b 4): compared are the 4 that all have"
    elif case == "ckpt":
        write_run(b, records, [1] * 6)
        (b / "metrics.jsonl").write_text("")
        note = "b: the last evaluation was of model.ckpt-8 (step 8), which is none that it logged"
    else:
        write_run(b, records, [1] * 6, is_older=True)
        (b / "eval/detections.json").write_text('[{"image_id": "of another"}]')
        note = "b is not compared frame by frame: "
    scores = scores_of(a, b, pattern=pattern, resamples=0)
    assert [one.run.name for one in scores.judged] == judged
    assert any(note in one for one in scores.notes), scores.notes
    if case == "part":
        assert scores.numbers == [0, 1, 2, 3]


def test_records_that_are_named_and_not_there_are_an_error(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", write_frames(tmp_path / "val.record"), [1] * 6)
    with pytest.raises(UserError, match="no such record"):
        scores_of(run, pattern=tmp_path / "none.record")
