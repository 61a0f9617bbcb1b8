"""From made-up frames to pictures with boxes, with the commands that a user types."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from efficientdet.comparison.page import to_html
from efficientdet.comparison.runs import read_runs
from efficientdet.comparison.scores import judge
from efficientdet.synthetic.scenes import render_set

# A rate of 0: every evaluation finds the same, and the second one is not better.
HPARAMS = (
    "backbone_name=efficientnet-tiny,fpn_num_filters=16,fpn_cell_repeats=1,box_class_repeats=1,"
    "image_size=128x64,anchor_scale=1,learning_rate=0,lr_warmup_init=0,is_training_bn=False,"
    "heads_only_epochs=1,early_stopping_epochs=1"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """Frames, records of six and two of them, and a run that was trained and evaluated."""
    folder = tmp_path_factory.mktemp("road")
    render_set(folder / "KIT", 8)
    for subset in ("training", "validation"):
        _run(
            root / "create_kitti_tf_record.py", "--kitti_root=KIT", f"--subset={subset}",
            f"--output_path={subset}.record", f"--label_map_path={root / 'label_map.txt'}",
            "--split=random", "--val_fraction=0.25", cwd=folder,
        )  # fmt: skip
    words = [
        root / "efficientdet/main.py", "--mode=train_and_eval", "--model_name=efficientdet-d0",
        "--train_file_pattern=training.record", "--val_file_pattern=validation.record",
        "--model_dir=run", "--train_batch_size=2", "--num_epochs=5", f"--hparams={HPARAMS}",
    ]  # fmt: skip
    (folder / "train.log").write_text(_run(*words, cwd=folder))
    return folder


def _run(script: Path, *arguments: str, cwd: Path, fails: bool = False) -> str:
    """What a command printed; on stderr if it is to fail."""
    done = subprocess.run(
        [sys.executable, str(script), *arguments], cwd=cwd, capture_output=True, text=True
    )
    assert bool(done.returncode) == fails, done.stdout + done.stderr
    return done.stderr if fails else done.stdout


def test_the_run_can_be_shown_as_a_page(folder: Path) -> None:
    """From what training and evaluation leave, without a word about where the records are."""
    runs, _ = read_runs([str(folder / "run")])
    scores = judge(runs, None, newest=False, resamples=3)
    (one,) = scores.judged
    assert one.step == 3 and scores.notes == []
    logged = {line["step"]: line["AP"] for line in runs[0].evaluations}
    assert one.result.metrics["AP"] == pytest.approx(logged[3], abs=1e-6)
    text = to_html(runs, scores, [], num_frames=1)
    assert "efficientdet/main.py --mode=train_and_eval" in text
    assert "finished after 2 epochs, of 5" in text and "Nothing was given up." in text


def test_heads_first_then_all_then_no_better_and_stopped(folder: Path) -> None:
    said = (folder / "train.log").read_text()
    assert said.index("the heads alone are trained") < said.index("all parts are trained")
    assert "no better AP in 1 evaluation: stopping early" in said
    assert "done: 6 steps" in said  # two epochs of five
    evaluations = [
        line for line in (folder / "run/metrics.jsonl").read_text().splitlines() if '"eval"' in line
    ]
    assert len(evaluations) == 2
    assert (folder / "run/archive/model.ckpt-3.index").exists()


def test_evaluation_says_and_writes_what_training_did(folder: Path, root: Path) -> None:
    """To the byte, with training's batch of 1: the kernels of another may round otherwise."""
    before = (folder / "run/eval/detections.json").read_bytes()
    said = _run(
        root / "efficientdet/main.py", "--mode=eval", "--model_dir=run",
        "--val_file_pattern=validation.record", cwd=folder,
    )  # fmt: skip
    assert "model.ckpt-6" in said and "COCO metrics" in said and "KITTI 2D AP" in said
    assert (folder / "run/eval/detections.json").read_bytes() == before
    assert (folder / "run/eval/report.html").stat().st_size > 10_000
    assert "step 6 is on the curve already" in said  # training evaluated it
    assert not (folder / "run/eval/metrics.jsonl").exists()


def test_report_and_thresholds_name_their_checkpoint(folder: Path) -> None:
    for place, name in (("eval", "model.ckpt-6"), ("archive", "model.ckpt-3")):
        thresholds = json.loads((folder / f"run/{place}/thresholds.json").read_text())
        assert thresholds["checkpoint"] == f"run/{name}" and f"-{thresholds['step']}" in name
        report = (folder / f"run/{place}/report.html").read_text()
        assert f"<code>run/{name}</code>, step {thresholds['step']}." in report


def test_results_have_a_row_for_each_evaluation(folder: Path) -> None:
    rows = (folder / "run/results.csv").read_text().splitlines()
    assert [row.split(",")[:2] for row in rows] == [["epoch", "step"], ["1", "3"], ["2", "6"]]
    assert Image.open(folder / "run/results.png").width > 1000


def test_prediction_draws_and_writes_each_image(folder: Path, root: Path) -> None:
    predict = root / "efficientdet/predict.py"
    said = _run(predict, "--model_dir=run", "--images=KIT", "--max_images=3", "--batch_size=2",
                "--output_dir=found", cwd=folder)  # fmt: skip
    assert "checkpoint: run/archive/model.ckpt-3, the best of its run" in said
    assert "best F1 of run/archive/model.ckpt-3 (step 3), from run/archive/thresholds.json" in said
    names = sorted(path.stem for path in (folder / "KIT/training/image_2").iterdir())[:3]
    assert sorted(path.stem for path in (folder / "found").glob("*.png")) == names
    assert sorted(path.stem for path in (folder / "found/results").iterdir()) == names
    frame = next((folder / "KIT/training/image_2").glob(f"{names[0]}.*"))
    assert Image.open(folder / f"found/{names[0]}.png").size == Image.open(frame).size
    numbers = {
        row["image_id"] for row in json.loads((folder / "found/detections.json").read_text())
    }
    assert numbers <= {int(name) for name in names}


def test_prediction_takes_its_images_from_a_record(folder: Path, root: Path) -> None:
    _run(root / "efficientdet/predict.py", "--model_dir=run", "--images=validation.record",
         "--output_dir=from_record", cwd=folder)  # fmt: skip
    manifest = json.loads((folder / "validation.record.manifest.json").read_text())
    found = {path.stem for path in (folder / "from_record").glob("*.png")}
    assert found == set(manifest["source_ids"])


def test_two_images_of_one_name_are_refused(folder: Path, root: Path) -> None:
    (folder / "other").mkdir()
    frame = min((folder / "KIT/training/image_2").iterdir())
    (folder / "other" / frame.name).write_bytes(frame.read_bytes())
    said = _run(
        root / "efficientdet/predict.py", "--model_dir=run", "--images=KIT,other", cwd=folder,
        fails=True,
    )  # fmt: skip
    assert frame.name in said and "have one name" in said and said.count("\n") == 1
