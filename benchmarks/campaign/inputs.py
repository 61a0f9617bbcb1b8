"""Mutated files of a KITTI folder, of flags, and of results: what one reader takes, all take."""

import re
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import tensorflow as tf
from PIL import Image

from benchmarks.campaign.case import Wrong
from benchmarks.campaign.mutations import NASTY, damage, damage_text, put
from benchmarks.campaign.scene import ROOT, Scene
from efficientdet.config import Config
from efficientdet.dataset import convert, image
from efficientdet.dataset.coco_classes import read_class_map
from efficientdet.dataset.kitti import parse_labels
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.options import Options, parse_classes
from efficientdet.dataset.selection import select_frames
from efficientdet.dataset.splits import read_split_file
from efficientdet.dataset.tfrecord import expand_pattern
from efficientdet.errors import UserError
from efficientdet.evaluation import kitti, zero_shot
from efficientdet.evaluation.folders import CLASS_NAMES, read_label_folder, read_result_folder
from efficientdet.evaluation.frames import FrameDetections
from efficientdet.evaluation.kitti_table import kitti_metrics
from efficientdet.evaluation.results import write_kitti
from efficientdet.inference.truths import read_truths
from efficientdet.input.images import find_images, image_batches
from efficientdet.inspection.checks import NO_BOXES, TINY, check_records

ALL = Options(subset="all")
_LABEL_MAPS = (
    "1: Car\n2: Pedestrian, Person_sitting\n3: Cyclist\n",
    "Car 1\nVan 2\n# a comment\nTram 3\n",
    "Car\nPedestrian\nCyclist\n",
    "item { id: 1 name: 'Car' }\nitem {\n  id: 2\n  name: \"Van\"\n}\n",
    "label_map:\n  1: Car\n  2: [Pedestrian, Cyclist]\n",
    "- Car\n- Van\n",
    "Car: 1\nTruck: 2\n",
)


def labels(chance: Random, scene: Scene, folder: Path) -> None:
    """One label file: what the converter takes, the inspector and both evaluations take."""
    root = scene.copy_kitti(folder, num_frames=3)
    path = root / "training/label_2" / f"{chance.choice(scene.frame_ids[:3])}.txt"
    text = path.read_text()
    if chance.random() < 0.05:
        text = text.replace("\n", " 0.93\n")  # results of a detector
    put(chance, path, damage_text(chance, text, " "), pipes=True)
    selection, output = select_frames(root, ALL), folder / "all.record"
    manifest = convert.convert(selection, output, LabelMap.kitti(), ALL, num_workers=1)
    is_scored = _require_sense(path, manifest.notes)
    report = check_records([output], num_workers=1)
    found = [p for p in report.problems if p.kind not in (NO_BOXES, TINY)]
    if found:
        raise Wrong("difference", f"converted, but the inspector says {found[0]}")
    readers = [lambda: read_truths([output], LabelMap.kitti())]
    if not is_scored:  # kitti_eval takes what the converter does, but no results for labels
        readers.append(lambda: read_label_folder(path.parent))
    for reader in readers:
        try:
            reader()
        except UserError as error:
            raise Wrong("difference", f"converted, but not read: {error}") from None


def _require_sense(path: Path, notes: Sequence[str]) -> bool:
    """No ground truth is made of results without a word, or of what is no number to a person.

    Returns whether there are scores.
    """
    for line in path.read_text(encoding="utf-8-sig").split("\n") if path.is_file() else ():
        columns = line.split()
        for text in columns[1:]:
            if not re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", text, re.ASCII):
                raise Wrong("difference", f"{text[:50]!r} was taken for a number")
    objects, _ = parse_labels(path.read_bytes(), path, scored=None) if path.is_file() else ({}, [])
    is_scored = any(item.score is not None for item in objects.values())
    if is_scored and not any("of 16 columns" in note for note in notes):
        raise Wrong("difference", "a score was dropped without a word")
    return is_scored


def images(chance: Random, scene: Scene, folder: Path) -> None:
    """One image file: converter and prediction agree on whether it decodes, and to what."""
    root = scene.copy_kitti(folder, num_frames=2)
    source = root / "training/image_2" / f"{scene.frame_ids[0]}.png"
    path, odd = source, chance.random() < 0.4
    if odd:
        path = _odd_image(chance, source)
    if not odd or chance.random() < 0.3:
        put(chance, path, damage(chance, path.read_bytes()), pipes=True)
    verified = Options(subset="all", verify_images=True)
    refused = None
    try:
        convert.dry_run(select_frames(root, verified), LabelMap.kitti(), verified, num_workers=1)
    except UserError as error:
        refused = error
    try:
        config = Config(image_size="64x32")
        _, (pixels,) = next(image_batches(find_images(str(path)), config, 1, _refuse))
    except UserError as error:
        if refused:
            raise refused from None
        raise Wrong("difference", f"it converts, but prediction says: {error}") from None
    if refused:
        raise refused
    expected = np.asarray(image.decode(path.read_bytes()))
    if expected.shape != pixels.shape:
        raise Wrong("difference", f"{expected.shape} here, {pixels.shape} in prediction")
    is_png = path.read_bytes().startswith(b"\x89PNG")
    worst = int(np.abs(expected.astype(int) - pixels).max(initial=0))
    if is_png and worst > 1:
        raise Wrong("difference", f"pixels that differ by {worst} between two decoders")


def _refuse(what: str) -> None:
    raise UserError(what)


def _odd_image(chance: Random, source: Path) -> Path:
    """A rare kind of PNG or JPEG in the place of `source`, perhaps under another ending."""
    with Image.open(source) as opened:
        picture = opened.convert("RGB")
    source.unlink()
    kind = chance.choice(
        ("L", "P", "1", "RGBA", "LA", "I;16", "16bit", "CMYK", "jpeg", "exif", "apng")
    )
    target = source.with_suffix(chance.choice((".png", ".PNG", ".jpg", ".jpeg")))
    if kind == "16bit":
        chosen = np.frombuffer(chance.randbytes(2 * 3 * 96 * 48), np.uint16).reshape(48, 96, 3)
        target.write_bytes(tf.io.encode_png(tf.constant(chosen)).numpy())
    elif kind == "I;16":
        grey = np.frombuffer(chance.randbytes(2 * 96 * 48), np.uint16).reshape(48, 96)
        Image.fromarray(grey).save(target, "PNG")
    elif kind == "apng":
        picture.save(target, "PNG", save_all=True, append_images=[picture.rotate(180)])
    elif kind in ("jpeg", "CMYK", "exif"):
        exif = Image.Exif()
        exif[0x0112] = chance.randrange(1, 9)
        more = {"exif": exif} if kind == "exif" else {"progressive": chance.random() < 0.5}
        picture.convert("CMYK" if kind == "CMYK" else "RGB").save(target, "JPEG", **more)
    else:
        picture.convert(kind).save(target, "PNG", interlace=chance.random() < 0.3)
    return target


def splits(chance: Random, scene: Scene, folder: Path) -> None:
    """A list of frames: read, and chosen by."""
    path = folder / "list.txt"
    names = [f"{name}{chance.choice(('', '', '.png', '.txt'))}" for name in scene.frame_ids]
    put(chance, path, damage_text(chance, "\n".join(names) + "\n", "."))
    ids = read_split_file(path)
    chosen = Options(subset="all", split="file", split_file=path)
    selection = select_frames(scene.kitti, chosen)
    if sorted(ids) != [frame.source_id for frame in selection.frames]:
        raise Wrong("difference", f"listed {ids}, chosen {selection.frames}")


def label_maps(chance: Random, scene: Scene, folder: Path) -> None:
    """A label map in any of its forms; what is read is written and read back as it was."""
    text = chance.choice(_LABEL_MAPS)
    path = folder / f"map.{'yaml' if ': [' in text or text[0] == '-' else 'txt'}"
    put(chance, path, damage_text(chance, text, " :,\n"))
    label_map = LabelMap.read(path)
    label_map.write(folder / "again.txt")
    again = (LabelMap.read(folder / "again.txt"), LabelMap.from_dict(label_map.to_dict()))
    if again != (label_map, label_map):
        raise Wrong("difference", f"{label_map} is written and read back as {again}")


def class_maps(chance: Random, scene: Scene, folder: Path) -> None:
    """A map of COCO's classes; what is read serves a zero-shot evaluation."""
    path = folder / "classes.yaml"
    text = (ROOT / "configs/coco_to_kitti.yaml").read_text().partition("classes:")[2]
    put(chance, path, damage_text(chance, f"classes:{text}", " :{},-"))
    entries = read_class_map(path)
    count = 90
    boxes = np.tile([[0.0, 0, 20, 30]], (count, 1))
    frame = FrameDetections("900000", boxes, np.full(count, 0.5), np.arange(1, count + 1))
    zero_shot.to_kitti([frame], entries, LabelMap.kitti()).table()


def results(chance: Random, scene: Scene, folder: Path) -> None:
    """Result files against labels: figures from 0 to 100, or a refusal."""
    truths = scene.kitti / "training/label_2"
    found, label_map = folder / "found", LabelMap.kitti()
    frames = [
        FrameDetections(
            name,
            np.array([[10, 5, 40, 30], [50, 8, 90, 40.5]]),
            np.array([0.9, 0.3]),
            np.array([1, chance.randrange(1, 9)]),
        )
        for name in scene.frame_ids
    ]
    write_kitti(found, frames, label_map)
    path = found / f"{chance.choice(scene.frame_ids)}.txt"
    put(chance, path, damage_text(chance, path.read_text(), " "), pipes=True)
    labelled = read_label_folder(truths)
    judged = read_result_folder(found, [truth.source_id for truth in labelled])
    with np.errstate(over="raise", invalid="raise"):
        metrics = kitti_metrics(kitti.evaluate(labelled, judged.detections, CLASS_NAMES))
    for name, value in metrics.items():
        if isinstance(value, float) and not 0 <= value <= 100:
            raise Wrong("difference", f"{name} is {value}")


def patterns(chance: Random, scene: Scene, folder: Path) -> None:
    """What --train_file_pattern, --images and --classes may be given by a slip of the hand."""
    scene.copy(folder, "train.record", "val.record")
    pieces = (*NASTY, "train.record", "*.record", "[", "]", "**", "?", ",", "-00000-of-00001", "~")
    text = "".join(chance.choice(pieces) for _ in range(chance.randrange(1, 4)))
    given = text if text.startswith("/") else f"{folder}/{text}"
    reader = chance.choice((expand_pattern, find_images, _classes))
    reader(text if chance.random() < 0.3 else given)


def _classes(text: str) -> None:
    if chosen := parse_classes(Path(text).name):
        LabelMap.kitti().only(chosen)


KINDS = {
    "labels": labels,
    "images": images,
    "splits": splits,
    "label_maps": label_maps,
    "class_maps": class_maps,
    "results": results,
    "patterns": patterns,
}
