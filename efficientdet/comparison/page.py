"""The page of one run, or of several side by side."""

import itertools
import math
import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from efficientdet.atomic import atomic_open
from efficientdet.comparison import figures
from efficientdet.comparison.data import record_groups
from efficientdet.comparison.frames import worst_differences
from efficientdet.comparison.runs import StoredRun, defaults, skipped_updates
from efficientdet.comparison.scores import JudgedRun, Scores, compared_metrics
from efficientdet.evaluation.bootstrap import Interval
from efficientdet.visualize.html import render
from efficientdet.wording import NBSP, duration

_ABSENT = "–"
_MOST_STARTS = 10


def write(
    path: str | Path,
    runs: Sequence[StoredRun],
    scores: Scores,
    notes: Sequence[str],
    *,
    num_frames: int = 6,
) -> None:
    """Writes one HTML file that needs no other.

    Args:
        notes: what is odd, in sentences; what the runs and the scores say comes after.
        num_frames: how many frames to show.
    """
    page = to_html(runs, scores, notes, num_frames=num_frames)
    with atomic_open(path) as file:
        file.write(page)


def to_html(
    runs: Sequence[StoredRun], scores: Scores, notes: Sequence[str], *, num_frames: int = 6
) -> str:
    """The text of the page; arguments as in `write`."""
    judged = {one.run.name: one for one in scores.judged}
    places = [runs.index(one.run) for one in scores.judged]
    return render(
        "compare_report.html",
        date=datetime.now().astimezone(),
        runs=runs,
        keys=list(zip(figures.COLOURS, figures.DASHES, strict=True)),
        summary=_summary(runs, judged),
        verdicts=_verdicts(runs, scores),
        notes=[
            *notes,
            *(f"{run.name}: {note}" for run in runs for note in run.notes),
            *scores.notes,
        ],
        metric_rows=_metric_rows(runs, judged, scores),
        scores=scores,
        num_judged=len(judged),
        baseline=scores.judged[0].run.name if judged else "",
        differing=_differing(runs),
        changed=_changed(runs),
        record_groups=record_groups(runs, scores.records),
        x_axis=figures.x_axis(runs),
        training_plots=figures.training_plots(runs),
        metric_plots=figures.metric_plots(runs),
        precision_plots=figures.precision_plots(scores.judged, places),
        frames=worst_differences(scores, num_frames),
        places=places,
        guards=[_guards(run) for run in runs],
        commands=[_commands(run, judged.get(run.name)) for run in runs],
    )


def _summary(
    runs: Sequence[StoredRun], judged: Mapping[str, JudgedRun]
) -> list[tuple[str, list[str]]]:
    """What each run is and how far it came: a row a fact, a text a run; rows without one go."""
    columns = []
    for run in runs:
        one, progress = judged.get(run.name), run.progress
        step = one.step if one else (run.best or {}).get("step")
        is_best = bool(run.best) and step == run.best["step"] and len(run.evaluations) > 1
        columns.append(
            {
                "state": run.state,
                "model": run.config.get("name", ""),
                "input": _text(run.config.get("image_size", "")),
                "images an update": str(progress.batch_size or "") if progress else "",
                "time in training": duration(progress.seconds) if progress else "",
                "last loss": _last_loss(run),
                "evaluations": str(len(run.evaluations) or ""),
                "shown here": f"step {step:,}" + ", the best" * is_best if step else "",
            }
        )
    rows = [(name, [column[name] or _ABSENT for column in columns]) for name in columns[0]]
    return [(name, texts) for name, texts in rows if set(texts) != {_ABSENT}]


def _last_loss(run: StoredRun) -> str:
    lines = [line for line in run.history.training if line.get("det_loss") is not None]
    return f"{lines[-1]['det_loss']:.3f} at step {lines[-1]['step']:,}" if lines else ""


def _metric_rows(
    runs: Sequence[StoredRun], judged: Mapping[str, JudgedRun], scores: Scores
) -> list[dict[str, Any]]:
    """A row a metric, a cell a run: value, interval, and both of the difference to the first."""
    logged = dict.fromkeys(name for run in runs for name in run.best or {})
    names = dict.fromkeys([*scores.metrics, *compared_metrics(logged)])
    rows = []
    for name in names:
        cells = []
        for run in runs:
            one = judged.get(run.name)
            values = one.result.metrics if one else run.best or {}
            cell = {"value": _percent(values.get(name)), "interval": None, "difference": None}
            if one:
                cell["interval"] = _known(one.interval(name))
                if one is not scores.judged[0] and name in values:
                    cell |= _difference(one, scores.judged[0], name)
            cells.append(cell | {"logged": one is None and cell["value"] is not None})
        rows.append({"name": figures.label(name), "cells": cells})
    return [row for row in rows if any(cell["value"] is not None for cell in row["cells"])]


def _difference(one: JudgedRun, first: JudgedRun, name: str) -> dict[str, Any]:
    value = 100 * (one.result.metrics[name] - first.result.metrics[name])
    interval = _known(one.interval(name, minus=first))
    kind = "" if interval is None else _kind(interval)
    return {"difference": value, "difference_interval": interval, "kind": kind}


def _kind(interval: tuple[float, float]) -> str:
    """Whether a difference is one: its interval lies on one side of 0."""
    return "ok" if interval[0] > 0 else "error" if interval[1] < 0 else ""


def _verdicts(runs: Sequence[StoredRun], scores: Scores) -> list[dict[str, str]]:
    """Which run is better, in a sentence for each but the first."""
    if len(runs) == 1:
        return []
    if len(scores.judged) < 2:
        text = "There is nothing to say which run is better: "
        text += f"{len(scores.judged) or 'none'} of them can be judged on common frames."
        return [{"kind": "warning", "head": "Not compared.", "text": text}]
    first = scores.judged[0]
    metric = first.run.metric if first.run.metric in scores.metrics else "AP"
    verdicts = []
    for one in scores.judged[1:]:
        found = _difference(one, first, metric)
        value, interval = found["difference"], found["difference_interval"]
        pair, by = f"{one.run.name} against {first.run.name}", figures.label(metric)
        if interval is None:
            head = f"{pair}: {value:+z.2f} points"
            text = f"of {by}. How sure that is, is not known: there is no interval."
        else:
            span = f"95{NBSP}% interval {interval[0]:+z.2f} to {interval[1]:+z.2f}"
            words = {"ok": "is better than", "error": "is worse than"}.get(found["kind"])
            if words:
                head = f"{one.run.name} {words} {first.run.name}:"
                text = f"{value:+z.2f} points of {by}, {span}."
            else:
                head = f"{pair}: no difference can be told,"
                text = f"{value:+z.2f} points of {by}, {span} with 0 in it."
        verdicts.append({"kind": found["kind"], "head": head, "text": text})
    return verdicts


def _known(interval: Interval | None) -> tuple[float, float] | None:
    """In percent; None where nothing can be said."""
    if interval is None or math.isnan(interval.low):
        return None
    return 100 * interval.low, 100 * interval.high


def _percent(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else 100 * value


def _settings(run: StoredRun) -> dict[str, Any]:
    """Its config, and what else decides a run."""
    extra = {}
    if run.progress and run.progress.batch_size:
        extra["--train_batch_size"] = run.progress.batch_size
    if run.weights:
        extra["--ckpt, --backbone_ckpt"] = run.weights
    return {**run.config, **extra}


def _differing(runs: Sequence[StoredRun]) -> list[tuple[str, list[str]]]:
    """Settings that are not the same in all runs, and what each has."""
    settings = [_settings(run) for run in runs]
    known = [one for one, run in zip(settings, runs, strict=True) if run.config]
    names = dict.fromkeys(name for one in known for name in one)
    rows = [(name, [_text(one.get(name, _ABSENT)) for one in settings]) for name in names]
    is_known = [bool(run.config) for run in runs]
    return [
        (name, texts)
        for name, texts in rows
        if len({text for text, known in zip(texts, is_known, strict=True) if known}) > 1
    ]


def _changed(runs: Sequence[StoredRun]) -> list[tuple[str, str, list[str]]]:
    """Settings that are not their model's default in some run: name, default, what each has."""
    standard = [defaults(run.config) if run.config else {} for run in runs]
    names = dict.fromkeys(name for run in runs for name in run.config)
    names.pop("num_classes", None)  # the records tell it
    rows = []
    for name in names:
        pairs = [
            (_text(default.get(name, _ABSENT)), _text(run.config.get(name, _ABSENT)))
            for run, default in zip(runs, standard, strict=True)
            if run.config
        ]
        if any(usual != own for usual, own in pairs):
            usual = " / ".join(dict.fromkeys(usual for usual, _ in pairs))
            own = [_text(run.config.get(name, _ABSENT)) for run in runs]
            rows.append((name, usual, own if len(set(own)) > 1 else own[:1]))
    return rows


def _text(value: Any) -> str:
    """A setting, as --hparams takes it."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_text, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _guards(run: StoredRun) -> dict[str, Any]:
    """What was given up for want of memory, and what was not finite."""
    memory = [
        (line["time"], ", ".join(f"{k}={_text(v)}" for k, v in line.get("changes", {}).items()))
        for line in run.journal
        if line["kind"] == "memory"
    ]
    names = ("mixed_precision", "grad_checkpoint", "grad_accum_steps")
    now = ", ".join(f"{n}={_text(run.config[n])}" for n in names if n in run.config)
    skipped = skipped_updates(run.path)
    progress = run.progress
    return {
        "memory": memory,
        "is_known": bool(run.starts),
        "now": now,
        "skipped": [(step, _images(file)) for step, file in skipped[:5]],
        "num_skipped": len(skipped),
        "rollbacks": progress.rollbacks if progress else 0,
        "factor": f"{progress.lr_factor:g}" if progress else "1",
    }


def _images(file: str) -> str:
    """The source ids of a batch that was kept; empty where it cannot be read."""
    try:
        with np.load(file, allow_pickle=False) as batch:
            ids = batch["source_id"].tolist()
    except Exception:  # whatever numpy and zip make of a damaged file: it is only named
        return ""
    return ", ".join(i.decode(errors="replace") if isinstance(i, bytes) else str(i) for i in ids)


def _commands(run: StoredRun, judged: JudgedRun | None) -> dict[str, Any]:
    """Every start, the last ones where there are many, and the evaluation that is shown."""
    starts = []
    for line in run.journal:
        if line["kind"] == "start":
            starts.append(_command(line) | {"time": line["time"]})
        elif line["kind"] == "end" and starts:
            starts[-1]["end"] = f"{line.get('how', '')} ({line['time']})"
    shown = starts[-_MOST_STARTS:]
    for before, one in reversed(list(itertools.pairwise(shown))):
        if before["versions"] == one["versions"]:
            one["versions"] = ""  # the same as above
    evaluation = None
    if judged and judged.command.get("argv"):
        one = _command(judged.command) | {"time": judged.date}
        evaluation = one if one["typed"] not in [start["typed"] for start in starts] else None
    return {
        "starts": shown,
        "num_earlier": len(starts) - len(shown),
        "evaluation": evaluation,
    }


def _command(line: Mapping[str, Any]) -> dict[str, str]:
    versions = line.get("versions") or {}
    return {
        "typed": shlex.join(map(str, line.get("argv", []))),
        "cwd": str(line.get("cwd", "")),
        "end": "",
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
