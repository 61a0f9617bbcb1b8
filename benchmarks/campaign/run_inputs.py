"""Mutated files of a model_dir, and archives: damage is never taken for weights or for figures."""

import io
import json
import re
import shutil
import tarfile
from pathlib import Path
from random import Random

import numpy as np

from benchmarks.campaign.case import Wrong
from benchmarks.campaign.mutations import NASTY, damage, damage_json, damage_text, put
from benchmarks.campaign.scene import HPARAMS, Scene
from efficientdet.checkpoint.bundle import DATA_SUFFIX, INDEX_SUFFIX, read_bundle
from efficientdet.checkpoint.stored import read_weights
from efficientdet.commands.download import unpack
from efficientdet.config import parse_hparams
from efficientdet.run.checkpoints import CheckpointManager, hold, newest_checkpoint
from efficientdet.run.directory import RunDirectory
from efficientdet.run.metrics_log import MetricsLog
from efficientdet.run.scoreboard import Scoreboard
from efficientdet.run.thresholds import thresholds_of

NEWEST = "model.ckpt-6"


def metrics(chance: Random, scene: Scene, folder: Path) -> None:
    """metrics.jsonl: the board of scores is made of what is left, and resuming cuts it."""
    run = _copy_run(scene, folder)
    log = run / chance.choice(("metrics.jsonl", "eval/metrics.jsonl"))
    lines = (scene.run / "metrics.jsonl").read_text().splitlines()
    if chance.random() < 0.5:
        place = chance.randrange(len(lines))
        row = damage_json(chance, json.loads(lines[place]))
        data = "\n".join(lines[:place]).encode() + b"\n" + row + b"\n"
        data += "\n".join(lines[place + 1 :]).encode()
    else:
        data = damage_text(chance, "\n".join(lines) + "\n", " ,:")
    log.parent.mkdir(exist_ok=True)
    put(chance, log, data)
    scoreboard = Scoreboard(CheckpointManager(run), "AP")
    scoreboard.has(6, 2)
    scoreboard.evaluations_since_best()
    with hold(run / NEWEST) as checkpoint:
        scoreboard.keep_if_best(checkpoint, {"AP": 0.5, "num_images": 2})
    scoreboard.truncate(3)
    scoreboard.truncate(-1)
    MetricsLog(log).append("eval", 6, 2.0, {"AP": 0.5})
    if MetricsLog(log).read("eval")[-1]["step"] != 6:
        raise Wrong("difference", "what is appended is not read back")


def states(chance: Random, scene: Scene, folder: Path) -> None:
    """The file `checkpoint`: training finds its own checkpoints, others a right one or none."""
    run = _copy_run(scene, folder)
    text = (run / "checkpoint").read_text().replace("model.ckpt-6", chance.choice((NEWEST, "x")))
    put(chance, run / "checkpoint", damage_text(chance, text, ' :"\n'))
    if newest_checkpoint(run, to="judge").name != NEWEST:
        raise Wrong("difference", "another checkpoint than the newest one is found")
    found = read_weights(str(run)).arrays
    known = [read_weights(str(scene.run / f"model.ckpt-{step}")).arrays for step in (4, 6)]
    if not any(_same(found, arrays) for arrays in known):
        raise Wrong("difference", "weights that are of no checkpoint")
    arrays, progress = CheckpointManager(run).load_latest()
    if progress.step != 6:
        raise Wrong("difference", f"training goes on at step {progress.step}, not 6")


def bundles(chance: Random, scene: Scene, folder: Path) -> None:
    """Damaged checkpoints: the one before is taken, and never the damage."""
    run = _copy_run(scene, folder)
    suffix = chance.choice((INDEX_SUFFIX, DATA_SUFFIX))
    path = Path(f"{run / NEWEST}{suffix}")
    put(chance, path, damage(chance, path.read_bytes()), odd=0.01)
    _, progress = CheckpointManager(run).load_latest()
    found = read_bundle(run / f"model.ckpt-{progress.step}")
    if not _same(found, read_bundle(scene.run / f"model.ckpt-{progress.step}")):
        raise Wrong("difference", f"a damaged {path.name} was taken for weights")
    read_weights(str(run))


def configs(chance: Random, scene: Scene, folder: Path) -> None:
    """config.yaml and label_map.txt beside weights: what reads them agrees, or refuses."""
    run = _copy_run(scene, folder)
    name = chance.choice(("config.yaml", "label_map.txt"))
    put(chance, run / name, damage_text(chance, (run / name).read_text(), " :-\n"))
    directory = RunDirectory(run)
    label_map = directory.label_map(None)
    directory.config(None, parse_hparams(HPARAMS), label_map, None)
    stored = read_weights(str(run))
    if (run / "config.yaml").is_file() and stored.label_map not in (None, label_map):
        raise Wrong("difference", f"{label_map} of the run, {stored.label_map} of its weights")


def thresholds(chance: Random, scene: Scene, folder: Path) -> None:
    """thresholds.json: scores that a picture can be drawn by."""
    run = _copy_run(scene, folder)
    shutil.copytree(scene.run / "eval", run / "eval", dirs_exist_ok=True)
    path = run / "eval/thresholds.json"
    content = json.loads(path.read_text())
    content["thresholds"] = content["thresholds"] or {"Car": 0.25, "Cyclist": 0.5}
    put(chance, path, damage_json(chance, content))
    scores, line = thresholds_of(run / NEWEST, run)
    for name, score in scores.items():
        if isinstance(score, bool) or not isinstance(score, int | float):
            raise Wrong("difference", f"{name} is drawn from a score of {score!r}")
    if not line or "\n" in line:
        raise Wrong("unclear", line)


def archives(chance: Random, scene: Scene, folder: Path) -> None:
    """A .tar.gz that lies: nothing is written elsewhere, nothing but whole weights is taken."""
    inside = folder / "inside"
    inside.mkdir()
    path = inside / "efficientdet-d0.tar.gz"
    path.write_bytes(_archive(chance, scene))
    if chance.random() < 0.4:
        path.write_bytes(damage(chance, path.read_bytes()))
    before = _listing(folder)
    try:
        if chance.random() < 0.5:
            found = read_weights(str(path)).arrays
        else:
            unpack(path, inside / "target", "", "http://127.0.0.1/x")
            found = read_weights(str(inside / "target")).arrays
    finally:
        foreign = {name for name in _listing(folder) - before if not name.startswith("inside")}
        if foreign or Path("/tmp/campaign-was-here").exists():
            Path("/tmp/campaign-was-here").unlink(missing_ok=True)
            raise Wrong("difference", f"written outside its folder: {foreign or '/tmp'}")
        if left := [n for n in _listing(folder) if re.search(r"\.tmp|/\.[^/]+$", n)]:
            raise Wrong("left over", ", ".join(left))
    if not _same(found, read_weights(str(scene.run / NEWEST)).arrays):
        raise Wrong("difference", "weights that are not those of the archive")


def _archive(chance: Random, scene: Scene) -> bytes:
    """A checkpoint's archive with strange members among its files."""
    buffer = io.BytesIO()
    files = [
        (f"efficientdet-d0/model{suffix}", Path(f"{scene.run / NEWEST}{suffix}").read_bytes())
        for suffix in (INDEX_SUFFIX, DATA_SUFFIX)
    ]
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        members = [_file(name, data) for name, data in files]
        for _ in range(chance.choice((0, 1, 1, 2))):
            members.insert(chance.randrange(len(members) + 1), _stranger(chance))
        for member, data in members:
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _file(name: str, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    return member, data


def _stranger(chance: Random) -> tuple[tarfile.TarInfo, bytes]:
    kind = chance.randrange(9)
    if kind == 0:
        return _file(chance.choice(("../out", "../../out", "/tmp/campaign-was-here")), b"x")
    if kind == 1:
        return _file("efficientdet-d0/" + chance.choice(NASTY).replace("\x00", "0"), b"x")
    if kind == 2:
        return _file("efficientdet-d0/model.meta", bytes(chance.choice((0, 1 << 20, 1 << 27))))
    if kind == 3:
        return _file("other/model.index", b"x")
    member = tarfile.TarInfo(f"efficientdet-d0/{chance.choice(('x', 'model.index', '../y'))}")
    member.type = chance.choice(
        (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE)
    )
    member.linkname = chance.choice(("../..", "/etc/passwd", "model.index", "x", "../../out"))
    member.mode = chance.choice((0o644, 0o000, 0o6777))
    return member, b""


def _copy_run(scene: Scene, folder: Path) -> Path:
    """The run without its evaluations and events."""
    keep = re.compile(r"model\.ckpt-.*|checkpoint|config\.yaml|label_map\.txt|metrics\.jsonl")
    (folder / "run").mkdir()
    for path in scene.run.iterdir():
        if keep.fullmatch(path.name):
            shutil.copy2(path, folder / "run" / path.name)
    return folder / "run"


def _same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return first.keys() == second.keys() and all(
        np.array_equal(first[name], second[name]) for name in first
    )


def _listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


KINDS = {
    "metrics": metrics,
    "states": states,
    "bundles": bundles,
    "configs": configs,
    "thresholds": thresholds,
    "archives": archives,
}
