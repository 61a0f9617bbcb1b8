"""KITTI's zips: fetched, checked, unpacked; whatever happens in between, the command goes on."""

import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from bucket import Bucket, serving

from efficientdet.commands import download_kitti
from efficientdet.errors import UsageError, UserError

IMAGES, LABELS = "data_object_image_2.zip", "data_object_label_2.zip"
TRAINING = {
    f"training/{folder}/{number:06d}.{suffix}": f"{folder} {number}".encode() * 300
    for folder, suffix in (("image_2", "png"), ("label_2", "txt"))
    for number in range(4)
}
TESTING = {f"testing/image_2/{number:06d}.png": b"testing" * 300 for number in range(3)}


def packed(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    with serving(Bucket()) as server:
        images = {name: data for name, data in TRAINING.items() if "image_2" in name} | TESTING
        server.files[IMAGES] = packed(images)
        server.files[LABELS] = packed({n: data for n, data in TRAINING.items() if "label_2" in n})
        monkeypatch.setenv("KITTI_URL", f"{server.address}/")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield server


@pytest.fixture
def download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> Callable[..., list[str]]:
    """Runs the command on the folder KIT; what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", ["download_kitti", *words])
        capsys.readouterr()
        download_kitti.main()
        return capsys.readouterr().out.splitlines()

    return run


def unpacked(folder: Path = Path("KIT")) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".zip"
    }


def test_fetched_checked_unpacked_and_not_again(bucket, download) -> None:
    said = download()
    assert unpacked() == TRAINING
    assert [path for path, _ in bucket.asked] == [f"/{LABELS}", f"/{IMAGES}"]
    for name in (LABELS, IMAGES):
        digest = hashlib.sha256(bucket.files[name]).hexdigest()
        assert f"SHA-256 {digest} ({bucket.address}/{name})" in said
    assert f"{IMAGES}: not the one known as published" in said
    assert "KIT/training/image_2: 4 files (KITTI has 7,481)" in said
    assert said[-2] == f"the zips are no longer needed: rm KIT/{LABELS} KIT/{IMAGES}"
    assert said[-1] == "next: KITTI_ROOT=KIT bash scripts/convert.sh"
    times = {path: path.stat().st_mtime_ns for path in Path("KIT").rglob("*")}
    assert download() == said[-4:]
    for name in (LABELS, IMAGES):
        (Path("KIT") / name).unlink()
        times.pop(Path("KIT") / name)
    assert download()[-1] == said[-1] and len(bucket.asked) == 2
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_the_zips_of_a_user_are_used_and_stay(bucket, download, tmp_path) -> None:
    zips = tmp_path / "내 파일"
    zips.mkdir()
    (zips / LABELS).write_bytes(bucket.files[LABELS])
    with pytest.raises(UserError, match=rf"{IMAGES}: no such file; ZIPS names"):
        download(f"--zips={zips}")
    (zips / IMAGES).write_bytes(bucket.files[IMAGES])
    said = download("큰 디스크/KIT", f"--zips={zips}", "--testing")
    assert unpacked(Path("큰 디스크/KIT")) == TRAINING | TESTING
    assert said[-1] == "next: KITTI_ROOT='큰 디스크/KIT' bash scripts/convert.sh"
    assert not bucket.asked and len(list(zips.iterdir())) == 2
    assert not any(line.startswith("SHA-256") for line in said)


def test_testing_can_follow_and_what_is_there_stays(bucket, download) -> None:
    download()
    mine = Path("KIT/training/label_2/000000.txt")
    mine.write_text("mine")
    assert "KIT/testing/image_2: 3 files (KITTI has 7,518)" in download("--testing")
    assert unpacked() == TRAINING | TESTING | {"training/label_2/000000.txt": b"mine"}
    assert len(bucket.asked) == 2


@pytest.mark.parametrize("ranges", ["yes", "no"])
def test_an_interrupted_download_goes_on(bucket, download, ranges: str) -> None:
    bucket.ranges, size = ranges, len(bucket.files[LABELS])
    bucket.cuts = [size, 3000, 0] if ranges == "yes" else [size, 3000, 3000]
    with pytest.raises(UserError, match="broke off at 3,000 of .* run the same command to go on"):
        download()
    assert not Path("KIT/training").exists()
    download()
    assert unpacked() == TRAINING
    starts = [start for path, start in bucket.asked if path == f"/{IMAGES}"]
    assert starts == ([0, 3000, 3000] if ranges == "yes" else [0, 0, 0])


def test_the_disk_is_looked_at_before_a_byte_is_fetched(bucket, download, monkeypatch) -> None:
    free = 0
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    with pytest.raises(UserError, match=r"^KIT: .* MB are needed, 0.0 MB are free; free some"):
        download()
    assert not bucket.asked
    free = 10**6
    download()
    shutil.rmtree("KIT/training")
    free = 5 * 4096
    with pytest.raises(UserError, match="are needed"):  # by what the zip says
        download("--testing")
    assert not Path("KIT/training/image_2").exists()


def test_a_sha256_that_is_given_is_compared(bucket, download, tmp_path) -> None:
    wrong, right = "0" * 64, hashlib.sha256(bucket.files[IMAGES]).hexdigest()
    with pytest.raises(UserError, match=f"SHA-256 is {right}, expected {wrong}; removed"):
        download(f"--images_sha256={wrong}")
    assert [path.name for path in Path("KIT").iterdir()] == [LABELS]
    with pytest.raises(UsageError, match="--labels_sha256=12: expected 64"):
        download("--labels_sha256=12")
    said = download(f"--images_sha256={right.upper()}")
    assert f"SHA-256 {right} (as expected)" in said
    with pytest.raises(UserError, match=f"KIT/{IMAGES}: its SHA-256 is {right}, expected"):
        download("other", "--zips=KIT", f"--images_sha256={wrong}")
    assert Path("KIT", IMAGES).exists() and not Path("other/training").exists()


def test_something_else_is_not_kept(bucket, download) -> None:
    bucket.files[IMAGES] = b"<html>moved</html>" * 100
    with pytest.raises(UserError, match=f"{IMAGES}: no complete zip .*removed, nothing was"):
        download()
    assert [path.name for path in Path("KIT").iterdir()] == [LABELS]
    bucket.files[IMAGES] = packed({"training/image_3/000000.png": b"right"})
    with pytest.raises(UserError, match=f"KIT/{IMAGES}: holds no files training/image_2/"):
        download()
    assert not Path("KIT/training/image_2").exists()


@pytest.mark.parametrize("kind", ["a file", "a dangling link", "an empty folder"])
def test_what_stands_in_the_way_is_named_before_a_byte_is_fetched(bucket, download, kind) -> None:
    target = Path("KIT/training/image_2")
    target.parent.mkdir(parents=True)
    if kind == "an empty folder":
        target.mkdir()
        download()
        assert unpacked() == TRAINING
        return
    target.symlink_to("nowhere") if "link" in kind else target.write_text("")
    with pytest.raises(UserError, match=f"{target}: a file, or a link to nothing"):
        download()
    assert not bucket.asked


def test_a_server_that_has_none_is_named(bucket, download) -> None:
    del bucket.files[IMAGES]
    with pytest.raises(UserError, match=f"{IMAGES}: no answer .*404"):
        download()
    assert not bucket.asked and list(Path("KIT").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_ended_while_it_unpacks_it_goes_on(bucket, root, tmp_path, number) -> None:
    """Through the script; without what the project needs installed."""
    code = f"""
import os, runpy
from efficientdet.dataset import kitti_zip
write = kitti_zip._write
def write_and_end(packed, member, path):
    write(packed, member, path)
    if path.name == "000002.png":
        os.kill(os.getpid(), {int(number)})
kitti_zip._write = write_and_end
runpy.run_module("efficientdet.commands.download_kitti", run_name="__main__")
"""
    (tmp_path / "end").write_text(f'#!/bin/sh\nshift 2\nexec {sys.executable} -S -c "$CODE" "$@"\n')
    (tmp_path / "end").chmod(0o755)

    def run(python: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            ["bash", root / "scripts/download_kitti.sh", tmp_path / "KIT"],
            env=os.environ | {"CODE": code, "PYTHON": python},
            capture_output=True,
            text=True,
        )

    ended = run(str(tmp_path / "end"))
    assert ended.returncode == (-9 if number == signal.SIGKILL else 143), ended.stderr
    if number == signal.SIGTERM:
        assert ended.stderr == "stopped by SIGTERM; run the same command to go on\n"
    training = tmp_path / "KIT/training"
    assert sorted(path.name for path in training.iterdir()) == [".image_2.unpacking", "label_2"]
    done = run(sys.executable)
    assert (done.returncode, done.stderr) == (0, "")
    assert unpacked(tmp_path / "KIT") == TRAINING and len(bucket.asked) == 2
