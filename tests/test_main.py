"""main.py as typed: what is wrong with a command is one line, and what it can do is told."""

import json
import os
import re
import site
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from efficientdet.commands import installed
from efficientdet.config import Config
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.manifest import Manifest, Shard
from efficientdet.errors import UserError
from efficientdet.inference.prediction import PredictOptions, predict
from efficientdet.run.directory import RunDirectory

TRAIN = ("--model_dir=run", "--train_file_pattern=train.record")
EVAL = ("--mode=eval", "--model_dir=run", "--val_file_pattern=train.record")
RECORD = b"\0"  # never opened: its manifest says what is in it

# flags: what the line on stderr says. All of them are usage errors.
WITHOUT_TENSORFLOW = {
    (): "--model_dir is missing, --mode=train needs it",
    ("--model_dir=run",): "--train_file_pattern is missing, --mode=train needs it",
    ("--model_dir=run", "--mode=eval"): "--val_file_pattern is missing, --mode=eval needs it",
    (*TRAIN, "--mode=train_and_eval"): "--val_file_pattern is missing, --mode=train_and_eval",
    ("--model_dir=run", "--train_file_pattern="): "--train_file_pattern is missing",
    (*TRAIN, "--mode=test"): "--mode=test: value should be one of <train|eval|train_and_eval>",
    (*TRAIN, "--modell_dir=x"): "Unknown command line flag 'modell_dir'. Did you mean: model_dir",
    (*TRAIN, "--image_size=512"): "a hyper-parameter: say --hparams=image_size=512",
    (*TRAIN, "--learning_rate", "0.1"): "a hyper-parameter: say --hparams=learning_rate=0.1",
    (*TRAIN, "--nomixed_precision"): "say --hparams=mixed_precision=false",
    (*TRAIN, "--autoaugment_policy=v0"): "say --hparams=autoaugment_policy=v0",
    (*TRAIN, "--hparams=image_size=1280*384"): "expected int | str; did you mean 1280x384?",
    (*TRAIN, "--use_tpu"): "--use_tpu=True: TPUs are not supported, it computes on GPU or CPU",
    (*TRAIN, "--use_fake_data"): "python -m efficientdet.commands.synthetic",
    (*TRAIN, "--val_json_file=a.json"): "the ground truth stands in the records",
    (*TRAIN, "train"): "unexpected argument 'train': flags are written --name=value",
    (*TRAIN, "--num_epochs=ten"): "--num_epochs=ten: invalid literal",
    (*TRAIN, "--eval_batch_size=0"): "--eval_batch_size=0: 0 is not a positive integer",
    (*TRAIN, "--strategy=tpu"): "--strategy=tpu: TPUs are not supported",
    (*TRAIN, "--strategy=horovod"): "value should be one of <|None|gpus|tpu>",
    (*TRAIN, "--train_batch_size=²"): "--train_batch_size=²: expected a positive number or `auto`",
    (*TRAIN, "--max_train_minutes=nan"): "--max_train_minutes=nan: expected a number",
    (*TRAIN, "--tf_random_seed=-1"): "seed=-1: expected a number in [0, 4294967295]",
    (*TRAIN, "--hparams=momentum=7"): "momentum=7.0: expected a number in [0, 1)",
    (*TRAIN, "--train_batch_size=0"): "--train_batch_size=0: expected a positive number or `auto`",
    (*TRAIN, "--train_batch_size=big"): "--train_batch_size=big: expected a positive number",
    (*TRAIN, "--train_batch_size=-4"): "--train_batch_size=-4: expected a positive number",
    (*TRAIN, "--ckpt=a", "--backbone_ckpt=b"): "--ckpt and --backbone_ckpt exclude each other",
    (*TRAIN, "--model_name=efficientdet-d9"): "unknown model 'efficientdet-d9'; did you mean 'effi",
    (*TRAIN, "--hparams=learning_rat=1"): "'learning_rat'; did you mean 'learning_rate'?",
    (*TRAIN, "--hparams=num_epochs=x"): "num_epochs='x': expected int",
    (*TRAIN, "--hparams=none.yaml"): "none.yaml: No such file or directory; expected a YAML file",
    (*TRAIN, "--grad_accum_steps=0"): "--grad_accum_steps=0: 0 is not a positive integer",
    (*TRAIN, "--zero_shot"): "--zero_shot goes with --mode=eval, not --mode=train",
    (*TRAIN, "--best"): "--best goes with --mode=eval, not --mode=train",
    (*EVAL, "--best", "--ckpt=a"): "--best and --ckpt exclude each other: take one of the two",
    (*EVAL, "--best", "--watch"): "--best and --watch exclude each other: take one of the two",
    (*EVAL, "--zero_shot"): "--zero_shot needs --ckpt, a COCO checkpoint of 90 classes",
}

# flags: exit code, line. TensorFlow is imported once for all of them.
WITH_TENSORFLOW = {
    ("--model_dir=run", "--train_file_pattern=no*.record"): (
        1, "no*.record: no such record file (read from "
    ),
    (*TRAIN, "--model_name=efficientdet-d2"): (
        1, "run holds a run of efficientdet-d0, --model_name says efficientdet-d2; take another"
    ),
    (*TRAIN, "--hparams=num_classes=90"): (
        2, "num_classes=90, but the records have 2 classes (1: Car, 2: Cyclist)"
    ),
    (*TRAIN, "--hparams=class_weights=1*2*3"): (
        2, "class_weights=[1.0, 2.0, 3.0]: 3 values, expected one for each of the 2 classes"
    ),
    (*TRAIN, "--hparams=class_prior=[0.1]"): (
        2, "class_prior=[0.1]: 1 values, expected one for each of the 2 classes"
    ),
    (*TRAIN, "--hparams=anchor_scale=3"): (1, "anchor_scale=4.0, the command line says 3.0"),
    (*TRAIN, "--label_map_path=other.txt"): (1, "but other.txt says 1: Car, 2: Tram"),
    (*TRAIN, "--train_batch_size=8", "--grad_accum_steps=3"): (
        2, "grad_accum_steps=3 does not divide the batch of 8"
    ),
    TRAIN: (2, "a batch of 64 images, but the training records hold 3: lower --train_batch_size"),
    (*TRAIN, "--train_batch_size=4"): (2, "a batch of 4 images, but the training records hold 3"),
    (*TRAIN, "--train_batch_size=auto"): (2, "tries what fits on the GPU, and there is none"),
    (*TRAIN, "--strategy=gpus"): (2, "a batch of 64 images"),
    (*TRAIN, "--ckpt=nowhere/model"): (1, "nowhere/model: no such file or folder"),
    (*EVAL, "--ckpt=nowhere/model"): (1, "nowhere/model: no such file or folder"),
    EVAL: (1, "run: no checkpoint to evaluate (model.ckpt-N.index); train first, or name one"),
    ("--mode=eval", "--model_dir=new", "--val_file_pattern=train.record"): (
        1, "new: no checkpoint to evaluate"
    ),
    ("--mode=eval", "--zero_shot", "--ckpt=nowhere", "--val_file_pattern=train.record"): (
        1, "nowhere: no such file or folder"
    ),
    (*TRAIN, "--memory_limit_mb=6000"): (2, "--memory_limit_mb: TensorFlow sees no GPU here"),
}  # fmt: skip

# Runs main() on each list of flags of argv[1], and prints [exit code, line] of each.
DRIVER = """
import json, sys
from absl import flags
from efficientdet import main
from efficientdet.console import log_to_console
from efficientdet.errors import UserError
from absl.testing import flagsaver
log_to_console()
ends = []
for words in json.loads(sys.argv[1]):
    with flagsaver.flagsaver():
        flags.FLAGS(["main.py", *words])
        try:
            main.main()
        except UserError as error:
            ends.append([error.exit_code, str(error)])
print(json.dumps(ends))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A record of two classes (its manifest, that is), and a run of D0 without a checkpoint."""
    folder = tmp_path_factory.mktemp("typed")
    label_map = LabelMap((("Car",), ("Cyclist",)))
    record = folder / "train.record"
    record.write_bytes(RECORD)
    shards = [Shard(record.name, 3, len(RECORD), "")]
    Manifest(3, label_map, 5, {}, shards=shards).write(record)
    config = Config.for_model("efficientdet-d0").override({"num_classes": 2})
    RunDirectory(folder / "run").write(config, label_map)
    (folder / "other.txt").write_text("1: Car\n2: Tram\n")
    return folder


@pytest.fixture(scope="module")
def no_tensorflow(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which importing TensorFlow or Keras ends the process."""
    folder = tmp_path_factory.mktemp("no_tensorflow")
    for name in ("tensorflow", "keras"):
        (folder / f"{name}.py").write_text(f"raise SystemExit('{name} was imported')")
    return {**os.environ, "PYTHONPATH": str(folder)}


def run(command: Sequence[object], **options: object) -> subprocess.CompletedProcess:
    command = [sys.executable, *map(str, command)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_bad_flags_are_told_before_tensorflow_is_imported(
    root: Path, folder: Path, no_tensorflow: dict[str, str]
) -> None:
    main = root / "efficientdet" / "main.py"

    def start(flags: tuple[str, ...]) -> subprocess.CompletedProcess:
        return run([main, *flags], cwd=folder, env=no_tensorflow)

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(start, WITHOUT_TENSORFLOW))
    for (flags, line), done in zip(WITHOUT_TENSORFLOW.items(), results, strict=True):
        assert done.returncode == 2, (flags, done)
        assert done.stderr.startswith("error: ") and line in done.stderr, flags
        assert done.stderr.count("\n") == 1 and not done.stdout, flags


def test_a_state_that_does_not_fit_is_told_before_anything_slow(folder: Path) -> None:
    flags = json.dumps([list(words) for words in WITH_TENSORFLOW])
    done = run(["-c", DRIVER, flags], cwd=folder)
    assert done.returncode == 0, done.stderr
    ends = json.loads(done.stdout.splitlines()[-1])
    for (words, (code, line)), end in zip(WITH_TENSORFLOW.items(), ends, strict=True):
        assert end[0] == code and line in end[1] and "\n" not in end[1], (words, end)
    assert not (folder / "new").exists()
    assert "--strategy=gpus: no GPU is seen here, it computes on the CPU" in done.stdout


def test_prediction_without_a_run_is_told_before_anything_else(folder: Path) -> None:
    with pytest.raises(UserError, match="new: no checkpoint to predict with .*; train first, or "):
        predict(PredictOptions(str(folder / "new"), "no/such"))


def test_the_line_is_the_last_and_there_is_no_traceback(root: Path, folder: Path) -> None:
    done = run([root / "efficientdet" / "main.py", *EVAL], cwd=folder)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: run: no checkpoint to evaluate")


@pytest.mark.parametrize(
    ("flags", "metric"),
    [
        ((), "AP"),
        (("--hparams=best_metric=kitti/moderate_R40",), "kitti/moderate_R40"),
        (("--hparams=best_metric=kitti/moderate_R40", "--best_metric=APs"), "APs"),
    ],
)
def test_the_flag_wins_over_the_best_metric_of_a_config(
    no_tensorflow: dict[str, str], flags: tuple[str, ...], metric: str
) -> None:
    code = """
import sys
from absl import flags
from efficientdet import main
from efficientdet.config import Config
flags.FLAGS(sys.argv)
print(Config().override(main._overrides()).best_metric)
"""
    done = run(["-c", code, *flags], env=no_tensorflow)
    assert done.stdout.strip() == metric, done.stderr


@pytest.mark.parametrize(
    "start",
    [
        lambda root: (["main.py"], root / "efficientdet"),
        lambda root: (["efficientdet/main.py"], root),
        lambda root: (["-m", "efficientdet.main"], Path("/")),
    ],
)
def test_help_teaches_however_it_is_started(
    root: Path, no_tensorflow: dict[str, str], start: Callable[[Path], tuple[list[str], Path]]
) -> None:
    command, cwd = start(root)
    done = run([*command, "--help"], cwd=cwd, env=no_tensorflow)
    assert done.returncode == 0 and not done.stderr
    assert "python efficientdet/main.py --mode=train_and_eval" in done.stdout
    assert "The same command again goes on where the run stopped." in done.stdout
    described = done.stdout.partition("flags:")[2]
    for flag in (
        "mode", "model_name", "model_dir", "train_file_pattern", "val_file_pattern", "ckpt",
        "backbone_ckpt", "train_batch_size", "eval_batch_size", "num_epochs", "eval_samples",
        "num_examples_per_epoch", "hparams", "strategy", "grad_accum_steps",
        "save_checkpoints_steps", "keep_checkpoints", "memory_limit_mb",
    ):  # fmt: skip
        assert f"--{flag}: " in described, flag
    assert "--[no]skip_preflight: " in described


@pytest.fixture(scope="module")
def site_packages() -> dict[str, str]:
    """What stands in requirements.txt is installed, the project is not."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(site.getsitepackages())}
    if run(["-S", "-c", "import efficientdet"], cwd="/", env=env).returncode == 0:
        pytest.skip("a copy of the project is installed")  # with -S, links to it are not followed
    return env


@pytest.mark.parametrize("name", ["main.py", "predict.py"])
def test_typed_by_path_a_command_finds_its_package(
    root: Path, tmp_path: Path, site_packages: dict[str, str], name: str
) -> None:
    done = run(["-S", root / "efficientdet" / name, "--help"], cwd=tmp_path, env=site_packages)
    assert done.returncode == 0 and not done.stderr
    assert f"python efficientdet/{name}" in done.stdout
    code = f"import runpy, sys; runpy.run_path({str(root / 'efficientdet' / name)!r}); "
    code += "print(*sys.path, sep='\\n')"
    done = run(["-S", "-c", code], cwd=tmp_path, env=site_packages)
    assert str(root / "efficientdet") not in done.stdout.splitlines()  # nothing is shadowed


@pytest.mark.parametrize(
    "name",
    [
        "efficientdet/main.py", "efficientdet/predict.py", "create_kitti_tf_record.py",
        "inspect_tfrecord.py",
    ],
)  # fmt: skip
def test_what_is_not_installed_is_one_line(root: Path, tmp_path: Path, name: str) -> None:
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = run(["-S", root / name, "--help"], cwd=tmp_path, env=env)
    assert done.returncode == 1 and not done.stdout and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: not installed: tensorflow, keras, numpy, Pillow, absl-py")
    assert f"-m pip install -r {root / 'requirements.txt'}" in done.stderr


def test_what_must_be_installed_is_what_requirements_txt_names(root: Path) -> None:
    lines = (root / "requirements.txt").read_text().splitlines()
    assert [re.match(r"[\w-]+", line)[0] for line in lines if line[0] != "#"] == [
        *installed.REQUIRED.values()
    ]
