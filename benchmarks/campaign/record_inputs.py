"""Mutated records and manifests: what the inspector passes, training and evaluation read."""

import functools
import hashlib
import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from random import Random
from types import SimpleNamespace

import numpy as np
import tensorflow as tf

from benchmarks.campaign.case import Wrong
from benchmarks.campaign.mutations import NASTY, damage, damage_json, put
from benchmarks.campaign.scene import HPARAMS, Scene
from efficientdet.config import parse_hparams
from efficientdet.dataset import convert
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.manifest import Manifest, manifest_path
from efficientdet.dataset.options import Options
from efficientdet.dataset.selection import select_frames
from efficientdet.dataset.tfrecord import expand_pattern, read_records
from efficientdet.errors import UserError
from efficientdet.inference import scoring, validation
from efficientdet.input.images import find_images
from efficientdet.input.record_set import RecordSet
from efficientdet.inspection import checks
from efficientdet.training import train
from efficientdet.training.options import TrainOptions
from efficientdet.visualize import curves, eval_report
from efficientdet.visualize.eval_report import Subject

_INTS = (0, 1, 2, 8, 9, 99, -1, 2**31, 2**62, -(2**62))
_FLOATS = (0.0, 1.0, -0.1, 0.5, 1.5, 100.0, 1e30, -1e30, 1e-30, float("nan"), float("inf"))
_BYTES = (
    b"", b"\xff\xfe\xfd", b"a\x00b", b"\x00", "자동차".encode(), b"../../up", b"/etc/x", b"a/b",
    b".", b"..", b" ", b"000000", b"000000.png", b"x" * 300, b"Car", b"DontCare", b"Person", b"\n",
    b"a\nb",
)  # fmt: skip


def record_bytes(chance: Random, scene: Scene, folder: Path) -> None:
    """Records with flipped, lost or foreign bytes, with and without their manifest."""
    has_manifest = chance.random() < 0.5
    scene.copy(folder, "val.record", *(["val.record.manifest.json"] if has_manifest else []))
    path = folder / "val.record"
    places = [place for place, _ in read_records(path)]
    ends = [0, *(place.offset + place.length + 4 for place in places)]
    data = path.read_bytes()
    kind = chance.randrange(8)
    if kind == 0:
        data = data[: chance.choice(ends)]
    elif kind == 1:
        more = (scene.folder / "train.record").read_bytes()
        data += more[: chance.choice((8, 12, 5000, len(more)))]
    elif kind == 2:
        first, last = data[: ends[1]], data[ends[1] :]
        data = chance.choice((last + first, first + first, first + last + first))
    else:
        data = damage(chance, data)
    changed = data != path.read_bytes()
    put(chance, path, data)
    if has_manifest and changed and path.is_file() and path.stat().st_size != ends[-1]:
        _require_refusals(path, scene, folder)
    read_everywhere(path, scene, folder)


def _require_refusals(path: Path, scene: Scene, folder: Path) -> None:
    """Records of another size than the manifest says are refused by everyone."""
    for name, reader in READERS.items():
        try:
            reader(path, scene, folder / f"first-{name}")
        except UserError as error:
            refusal = error
        else:
            raise Wrong("difference", f"{name} takes records that are not the manifest's")
    raise refusal


def record_features(chance: Random, scene: Scene, folder: Path) -> None:
    """Whole records whose examples have wrong features; where there is a manifest, it agrees."""
    scene.copy(folder, "val.record", "val.record.manifest.json")
    path = folder / "val.record"
    examples = [tf.train.Example.FromString(data) for _, data in read_records(path)]
    for example in chance.choices(examples, k=chance.choice((1, 1, 2))):
        for _ in range(chance.choice((1, 1, 2))):
            _change_feature(chance, example.features.feature)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for example in examples:
            writer.write(example.SerializeToString(deterministic=True))
    if chance.random() < 0.5:
        manifest_path(path).unlink()
    else:
        values = json.loads(manifest_path(path).read_text())
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        shard = {"num_bytes": path.stat().st_size, "sha256": digest}
        values["shards"] = [values["shards"][0] | shard]
        manifest_path(path).write_text(json.dumps(values))
    read_everywhere(path, scene, folder)


def _change_feature(chance: Random, features: dict) -> None:
    """One feature lost, emptied, of another type, shorter, longer, or with another value."""
    key = chance.choice(sorted(features))
    kind = features[key].WhichOneof("kind")
    what = chance.randrange(10)
    if what == 0:
        del features[key]
        return
    if what == 1 or kind is None:
        other, choices = chance.choice(
            (("int64_list", _INTS), ("float_list", _FLOATS), ("bytes_list", _BYTES))
        )
        count = len(getattr(features[key], kind).value) if kind else 1
        features[key].Clear()
        getattr(features[key], other).value.extend(chance.choices(choices, k=count))
        return
    values = getattr(features[key], kind).value
    if what == 2 and len(values):
        del values[chance.randrange(len(values))]
    elif what == 3 and len(values):
        values.append(values[0])
    elif what == 4:
        del values[:]
    elif len(values):
        place = chance.randrange(len(values))
        if kind == "bytes_list":
            words = (*_BYTES, damage(chance, values[place]), chance.choice(NASTY).encode())
            values[place] = chance.choice(words)
        else:
            values[place] = chance.choice(_INTS if kind == "int64_list" else _FLOATS)


def manifests(chance: Random, scene: Scene, folder: Path) -> None:
    """A mutated manifest: refused, or everyone goes by it."""
    root = scene.copy(folder, "KIT", "val.record", "val.record.manifest.json") / "KIT"
    path = folder / "val.record"
    data = damage_json(chance, json.loads(manifest_path(path).read_text()))
    put(chance, manifest_path(path), data)
    before = path.read_bytes()
    if chance.random() < 0.5:
        read_everywhere(path, scene, folder)
        return
    Manifest.load(manifest_path(path)).summary()
    options = Options(subset="validation", split="random", val_fraction=0.25)
    selection = select_frames(root, options)
    convert.convert(selection, path, LabelMap.kitti(), options, num_workers=1)
    if path.read_bytes() != before:
        raise Wrong("difference", "the record was replaced without --overwrite")


def read_everywhere(path: Path, scene: Scene, folder: Path) -> None:
    """All readers; raises the first refusal, and Wrong where the inspector alone was content."""
    refusals: dict[str, UserError] = {}
    for name, reader in READERS.items():
        try:
            reader(path, scene, folder / name)
        except UserError as error:
            refusals[name] = error
    if refusals and "inspector" not in refusals:
        name, error = next(iter(refusals.items()))
        raise Wrong("difference", f"the inspector passes it, {name} says: {str(error)[:300]}")
    if refusals:
        raise refusals["inspector"]


def inspect(path: Path, scene: Scene, folder: Path) -> None:
    """inspect_tfrecord.py."""
    report = checks.check_records(expand_pattern(str(path)), num_workers=1)
    if not report.ok:
        raise UserError(f"{len(report.problems)} problems\n{report.text()}")
    if unnamed := [one.what for one in report.warnings if one.kind == checks.NO_MAP]:
        raise UserError(unnamed[0])  # fit for training, with a label map, which nobody gives here


def train_on(path: Path, scene: Scene, folder: Path) -> None:
    """main.py --mode=train_and_eval, without the steps."""
    options = TrainOptions(
        str(folder), str(path), str(path), "efficientdet-d0", parse_hparams(HPARAMS),
        train_batch_size=1,
    )  # fmt: skip
    run = train.open_run(options)
    count = run.records.num_examples
    batches = train._training_batches(run.records, run.config, 1, count)
    if len(list(islice(batches(0, 0), count))) != count:
        raise Wrong("difference", f"fewer batches than the {count} images that were counted")


def evaluate_on(path: Path, scene: Scene, folder: Path) -> None:
    """main.py --mode=eval with a network that is built once; mostly without the plots."""
    scoring.load_detector = functools.partial(_detector, scene)
    if path.stat().st_size % DRAWN:
        validation.curves, validation.eval_report = _NO_CURVES, _NO_REPORT
    else:
        validation.curves, validation.eval_report = curves, eval_report
    options = scoring.EvaluateOptions(
        str(folder), str(path), "efficientdet-d0", parse_hparams(HPARAMS), ckpt=str(scene.run)
    )
    scoring.evaluate(options)


def judge(path: Path, scene: Scene, folder: Path) -> None:
    """main.py --mode=eval --self_check, but for its verdict."""
    scoring.read_truths(RecordSet.open(str(path)).files, LabelMap.kitti())


def find(path: Path, scene: Scene, folder: Path) -> None:
    """predict.py --images=RECORD, until the network."""
    for found in find_images(str(path)):
        found.read_bytes()


READERS: dict[str, Callable[[Path, Scene, Path], None]] = {
    "inspector": inspect,
    "training": train_on,
    "evaluation": evaluate_on,
    "self_check": judge,
    "prediction": find,
}
DRAWN = 8  # of so many evaluations one draws its plots, which take longer than all the rest
_NO_REPORT = SimpleNamespace(write=lambda *_: None, Subject=Subject)
_NO_CURVES = SimpleNamespace(
    pixels=lambda _: np.zeros((8, 8, 3), np.uint8),
    kitti_figure=lambda *_: None,
    coco_figure=lambda *_: None,
)
_load = scoring.load_detector


def _detector(scene: Scene, *_: object) -> scoring.Detector:
    return _of_scene(scene)


@functools.cache
def _of_scene(scene: Scene) -> scoring.Detector:
    config = train.Config.for_model("efficientdet-d0").override(
        parse_hparams(HPARAMS) | {"num_classes": 8}
    )
    return _load(config, str(scene.run), LabelMap.kitti())


KINDS = {
    "record_bytes": record_bytes,
    "record_features": record_features,
    "manifests": manifests,
}
