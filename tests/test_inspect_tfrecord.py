"""The inspector as its user runs it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from efficientdet.config import parse_hparams
from efficientdet.dataset.convert import convert
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.options import Options
from efficientdet.dataset.selection import select_frames
from efficientdet.synthetic.scenes import render_set


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """A folder with train.record, val.record, and pixels.record with boxes in pixels."""
    render_set(tmp_path / "kitti", 8, seed=0)
    for name in ("train", "val"):
        path = tmp_path / "kitti" / "ImageSets" / f"{name}.txt"
        options = Options(split="file", split_file=path)
        selection = select_frames(tmp_path / "kitti", options)
        convert(selection, tmp_path / f"{name}.record", LabelMap.kitti(), options)
    with tf.io.TFRecordWriter(str(tmp_path / "pixels.record")) as writer:
        for data in tf.data.TFRecordDataset(str(tmp_path / "train.record")).as_numpy_iterator():
            example = tf.train.Example.FromString(data)
            for side, size in (("x", 1242), ("y", 375)):
                for end in ("min", "max"):
                    key = f"image/object/bbox/{side}{end}"
                    values = example.features.feature[key].float_list.value
                    values[:] = [value * size for value in values]
            writer.write(example.SerializeToString())
    return tmp_path


SMALL = (
    "--hparams=backbone_name=efficientnet-tiny,fpn_num_filters=16,fpn_cell_repeats=1,"
    "box_class_repeats=1"
)


def start(root: Path, folder: Path, *flags: str) -> subprocess.Popen:
    command = [sys.executable, root / "inspect_tfrecord.py", *flags]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=180)
    assert "Traceback" not in err, err
    return process.returncode, out, err


def test_verdict_tables_and_report(root, records):
    anchors = ("--image_size=512,640x256", "--hparams=anchor_scale=2")
    runs = [
        start(root, records, "--input=train.record,val.record", "--report=report.html", *anchors),
        start(root, records, "--input=pixels.record", "--no_decode", "--sample=3"),
        start(root, records, "--input=train.record", "--recommend_yaml=own.yaml", SMALL),
    ]
    good, pixels, fitted = map(finish, runs)
    code, out, err = good
    assert code == 0, err
    assert re.fullmatch(r"OK: 8 records, \d warnings", out.splitlines()[-1])
    assert re.search(r"Near-duplicates: \d+.\d% of the frames of val.record", out)
    assert "warning: anchors fitted to few objects" in out and "Fitted to" in out
    assert max(map(len, out.splitlines())) <= 80
    assert re.search(r"512x512 +fitted +640x256 +fitted", out)
    assert re.search(r"^Car +1 +\d+", out, re.MULTILINE) and "anchor_scale=2.0" in out
    page = (records / "report.html").read_text()
    assert not re.search(r"""(src|href)=["']?(https?:|//)""", page), "no network"
    assert page.count("data:image/") > 8

    code, _, err = pixels
    assert code == 1
    assert "pixel coordinates: box_loss would stay at 0 (3 times)" in err
    assert "pixels.record, record 0 (900000)" in err
    verdict = err.splitlines()[-1]
    assert verdict.startswith("error: ") and verdict.endswith(": do not train on them")

    code, out, err = fitted
    assert code == 0, err
    assert re.search(r"^chosen .*\*", out, re.MULTILINE) and "Written: own.yaml" in out
    own = parse_hparams([str(records / "own.yaml")])
    assert {*own} == {"image_size", "anchor_scale", "aspect_ratios"}
    assert (records / "own.yaml").read_text() in out
