"""A small campaign finds nothing, and what is wrong it would find."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.campaign.case import Case, Result, Wrong, run_case
from benchmarks.campaign.commands import Done
from benchmarks.campaign.comparison import require_same
from benchmarks.campaign.kills import require_readable
from benchmarks.campaign.lanes import Job, run_jobs
from benchmarks.campaign.mutations import damage, damage_json, damage_text
from benchmarks.campaign.report import Tally
from benchmarks.campaign.scene import Scene
from efficientdet.errors import UserError

# What takes longest is left to the large campaign: evaluations and predictions that are killed.
SMALL = (
    "--rounds=1", "--seed=20240607", "--batch=9", "--commands=convert,overwrite,train",
    "--only=labels,images,splits,label_maps,class_maps,results,patterns,senseless,hparams,"
    "yaml_files,record_bytes,record_features,manifests,metrics,states,bundles,configs,thresholds,"
    "archives,kill_convert,kill_overwrite,kill_train",
)  # fmt: skip


def test_a_small_campaign_finds_nothing(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.campaign", *SMALL],
        cwd=root, env=os.environ | {"COLUMNS": "120"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 wrong" in done.stdout and " 7 kills" in done.stdout


def fail(error: Exception | None) -> None:
    if error:
        raise error


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "passed"),
        (UserError("a.txt:3: 14 columns, expected 15"), "refused"),
        (UserError("2 problems in the input\n  a\n  b"), "refused"),
        (UserError(f"a word of the input: {'7' * 5000}"), "refused"),
        (FileNotFoundError(2, "No such file", "a.txt"), "refused"),
        (UserError("two\nlines"), "unclear"),
        (UserError(" "), "unclear"),
        (UserError("much to read " * 200), "unclear"),
        (ValueError("x"), "traceback"),
        (OSError("of no file"), "traceback"),
        (RecursionError(), "traceback"),
        (Wrong("difference", "x"), "difference"),
    ],
)
def test_what_comes_of_a_case(tmp_path: Path, error: Exception | None, outcome: str) -> None:
    result = run_case(Case("any", 1), lambda *_: fail(error), Scene(tmp_path))
    assert result.outcome == outcome and not any(tmp_path.iterdir())


def do(case: Case) -> Result:
    if case.kind == "pause":
        signal.pause()
    if case.kind == "die":
        os._exit(3)
    return Result(case, "passed")


def test_one_that_hangs_and_one_that_dies_cost_one_case_each() -> None:
    cases = [Case(kind, i) for i, kind in enumerate(("fine", "die", "fine", "pause", "fine"))]
    results = list(run_jobs(iter([Job(cases, 0.5)]), do, num_lanes=2))
    assert [r.outcome for r in results] == ["passed", "crash", "passed", "hang", "passed"]
    assert [result.case.number for result in results] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("code", "output", "outcome"),
    [
        (None, "", "hang"),
        (1, "Traceback (most recent call last):\n  ...\nValueError: x\n", "traceback"),
        (-signal.SIGSEGV, "", "crash"),
        (1, "", "unclear"),
        (1, "error: one\ntwo\n", "unclear"),
        (1, "going on\nerror: train.record: damaged; convert again\n", None),
        (-signal.SIGKILL, "", None),
        (0, "done", None),
    ],
)
def test_what_a_command_may_say(code: int | None, output: str, outcome: str | None) -> None:
    if outcome is None:
        require_readable(Done(code, output, []))
        return
    with pytest.raises(Wrong) as wrong:
        require_readable(Done(code, output, []))
    assert wrong.value.outcome == outcome


def test_folders_are_compared_but_for_times(tmp_path: Path) -> None:
    for name in ("found", "expected"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "a.record").write_bytes(b"same")
        (folder / "metrics.jsonl").write_text(f'{{"step": 1, "rss_mb": {len(name)}}}\n')
        (folder / f"events.out.tfevents.{name}").write_text(name)
    compare = (tmp_path / "found", tmp_path / "expected")
    require_same(*compare)
    for name, content, outcome in (
        (".a.record.123.tmp", "", "left over"),
        ("b.record", "", "difference"),
        ("a.record", "other", "difference"),
        ("metrics.jsonl", '{"step": 2}\n', "difference"),
    ):
        path = tmp_path / "found" / name
        before = path.read_bytes() if path.exists() else None
        path.write_text(content)
        with pytest.raises(Wrong) as wrong:
            require_same(*compare)
        assert wrong.value.outcome == outcome
        path.unlink() if before is None else path.write_bytes(before)
    require_same(*compare)


def test_damage_comes_from_the_seed_alone() -> None:
    def damaged(seed: int) -> tuple[bytes, ...]:
        chance = random.Random(seed)
        text, values = "Car 0.00 0 -1.57\nVan 1 2 3\n", {"a": [1, {"b": 2.5}], "c": "x"}
        return (
            damage(chance, bytes(range(256))),
            damage_text(chance, text),
            damage_json(chance, values),
        )

    assert [damaged(seed) for seed in range(300)] == [damaged(seed) for seed in range(300)]
    assert len({damaged(seed) for seed in range(300)}) > 250


def test_a_failure_names_the_command_that_does_it_again() -> None:
    tally = Tally()
    for number in range(3):
        tally.add(Result(Case("labels", number), "traceback", "ValueError:\n x"))
    tally.add(Result(Case("labels", 3), "passed"))
    assert tally.count(["labels"]) == 4 and len(tally.wrong) == 3
    first = "python -m benchmarks.campaign --case=labels:0 --seed=1  # traceback: ValueError: x"
    assert tally.failures(1, " --seed=1") == [first, "... and 2 more"]
