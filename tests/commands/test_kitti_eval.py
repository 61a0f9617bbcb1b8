import json
import subprocess
import sys

import pytest

LINE = "Car 0 0 -1.5 10.0 20.0 110.0 70.0 1.5 1.6 4.0 0.0 1.7 20.0 0.1"


@pytest.fixture
def folders(tmp_path):
    for name, line in (("label_2", LINE), ("results", f"{LINE} 0.9")):
        (tmp_path / name).mkdir()
        for number in range(3):
            (tmp_path / name / f"00000{number}.txt").write_text(line + "\r\n")
    return tmp_path


def run(folder, *flags):
    """In another folder than the repository: the command must not depend on where it runs."""
    command = [sys.executable, "-m", "efficientdet.commands.kitti_eval", *flags]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_judges_a_folder(folders):
    (folders / "results/000002.txt").unlink()
    (folders / "results/000009.txt").touch()
    done = run(
        folders, "--labels=label_2", "--results=results", "--json=out/ap.json", "--curves=pr.png"
    )
    assert done.returncode == 0, done.stderr
    assert "3 frames. Detections: 2 Car." in done.stdout
    told = " ".join(done.stdout.split())
    assert "no result file for 1 of 3 frames, first 000002.txt" in told
    assert "not read: 1, first 000009.txt" in told
    metrics = json.loads((folders / "out/ap.json").read_text())
    assert metrics["kitti/Car_moderate_R40"] == pytest.approx(1 / 40)
    assert (folders / "pr.png").read_bytes().startswith(b"\x89PNG")


def test_checks_itself(folders):
    (folders / "val.txt").write_text("000000\n000001")
    done = run(folders, "--labels=label_2", "--split_file=val.txt", "--self_check")
    assert done.returncode == 0, done.stderr
    assert "WRONG" not in done.stdout
    assert done.stdout.count("ok") == 4


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--labels=label_2"], 2, "expected either --results=FOLDER or --self_check"),
        (["--results=results"], 2, "--labels is missing"),
        (["--labels=label_2", "--results=broken"], 1, "broken/000001.txt:1: 2 columns"),
    ],
)
def test_tells_what_is_wrong_in_one_line(folders, flags, code, message):
    (folders / "broken").mkdir()
    (folders / "broken/000001.txt").write_text("Car 1\n")
    done = run(folders, *flags)
    assert done.returncode == code
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
