"""main.py killed and started again goes on as if nothing had been, bit for bit."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from efficientdet.run.checkpoints import CheckpointManager
from efficientdet.synthetic.scenes import render_set

HPARAMS = (
    "backbone_name=efficientnet-tiny,fpn_num_filters=16,fpn_cell_repeats=1,box_class_repeats=1,"
    "image_size=128x64,anchor_scale=2,learning_rate=0.2,photometric=0.3,survival_prob=0.8"
)


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """Eight frames: at a batch of 2, four steps an epoch."""
    folder = tmp_path_factory.mktemp("kitti")
    render_set(folder, 8)
    (folder / "all.txt").write_text("\n".join(f"{900000 + i}" for i in range(8)))
    path = folder / "train.record"
    subprocess.run(
        [
            sys.executable, str(root / "create_kitti_tf_record.py"), f"--kitti_root={folder}",
            f"--output_path={path}", f"--label_map_path={root / 'label_map.txt'}",
            "--subset=training", "--split=file", f"--split_file={folder / 'all.txt'}",
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    return path


def _command(root: Path, record: Path, model_dir: Path) -> list[str]:
    return [
        sys.executable, str(root / "efficientdet" / "main.py"), "--mode=train",
        "--model_name=efficientdet-d0", f"--train_file_pattern={record}",
        f"--model_dir={model_dir}", "--train_batch_size=2", "--num_epochs=2",
        "--save_checkpoints_steps=2", "--keep_checkpoints=9", "--deterministic",
        "--skip_preflight", f"--hparams={HPARAMS}",
    ]  # fmt: skip


def _run_until(command: list[str], step: int, signal_number: int) -> subprocess.Popen:
    """Starts the command and sends the signal once checkpoint `step` is named in its state file."""
    model_dir = Path(next(arg for arg in command if "model_dir" in arg).partition("=")[2])
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while process.poll() is None:
        state = model_dir / "checkpoint"
        if state.exists() and f'path: "model.ckpt-{step}"' in state.read_text():
            process.send_signal(signal_number)
            break
        os.sched_yield()
    return process


def test_killed_runs_end_where_an_undisturbed_one_does(
    tmp_path: Path, root: Path, record: Path
) -> None:
    """8 steps at once against 2 + SIGKILL + SIGTERM past the end of the first epoch + the rest."""
    straight, disturbed = tmp_path / "straight", tmp_path / "disturbed"
    subprocess.run(_command(root, record, straight), check=True, capture_output=True)

    killed = _run_until(_command(root, record, disturbed), 2, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    ended = _run_until(_command(root, record, disturbed), 4, signal.SIGTERM)
    output = ended.communicate()[0]
    assert re.search(r"going on at step [2-4]\b", output), output
    assert "stopped by SIGTERM" in output
    assert ended.returncode == 128 + signal.SIGTERM
    same = [word for word in _command(root, record, disturbed) if "batch_size" not in word]
    last = subprocess.run(same, capture_output=True, text=True)
    assert last.returncode == 0, last.stderr
    assert "going on with the run's batch of 2 images" in last.stdout
    assert "done: 8 steps" in last.stdout

    expected, expected_progress = CheckpointManager(straight).load_latest()
    found, progress = CheckpointManager(disturbed).load_latest()
    assert progress == expected_progress  # all but the seconds
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert np.array_equal(array, found[name]), name
