"""Published checkpoints are found by name, fetched to the last byte, and unpacked whole."""

import gzip
import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from bucket import Bucket, serving

from efficientdet.config import load_yaml

MODEL = "efficientdet-d2"
PART = f"{MODEL}.tar.gz.part"
SIZES = ["d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7", "d7x"]
PATHS = {
    *(f"efficientdet/coco2/efficientdet-{size}.tar.gz" for size in SIZES),
    *(f"efficientdet/coco/efficientdet-{size}.tar.gz" for size in SIZES),
    *(f"efficientdet/coco/efficientdet-lite{size}.tgz" for size in ["0", "1", "2", "3", "3x", "4"]),
    *(f"efficientdet/advprop/efficientdet-d{size}.tar.gz" for size in range(6)),
    *(f"efficientdet/coco640/efficientdet-d{size}-640.tar.gz" for size in range(2, 7)),
    *(f"efficientnet/ckptsaug/efficientnet-b{size}.tar.gz" for size in range(8)),
}


def archive(folder="published-name/"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in {"checkpoint": b"model", "model.index": os.urandom(5000)}.items():
            member = tarfile.TarInfo(f"{folder}{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def bucket():
    with serving(Bucket(PATHS)) as server:
        server.content = archive()
        yield server


def download(root, bucket, *words, fails=False, **knobs):
    """The last line that was printed, on stderr if it `fails`; that has no other."""
    finished = subprocess.run(
        [root / "scripts/download_checkpoint.sh", *words],
        env=os.environ
        | {
            "PYTHON": sys.executable,
            "CHECKPOINT_URL": bucket.address,
            "no_proxy": "127.0.0.1",
        }
        | knobs,
        capture_output=True,
        text=True,
    )
    assert bool(finished.returncode) == fails, finished.stderr
    if fails:
        said = [line for line in finished.stderr.splitlines() if "starts over" not in line]
        assert len(said) == 1, said
        return said[0]
    return finished.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "path", "folder", "hparams"),
    [
        ("efficientdet-d0", "efficientdet/coco2/efficientdet-d0.tar.gz", "efficientdet-d0", {}),
        (
            "efficientdet-d7x --set=coco",
            "efficientdet/coco/efficientdet-d7x.tar.gz",
            "efficientdet-d7x-coco",
            {},
        ),
        (
            "efficientdet-lite3x",
            "efficientdet/coco/efficientdet-lite3x.tgz",
            "efficientdet-lite3x",
            {},
        ),
        (
            "efficientdet-d5 --set=advprop",
            "efficientdet/advprop/efficientdet-d5.tar.gz",
            "efficientdet-d5-advprop",
            {"mean_rgb": 127.5, "stddev_rgb": 127.5},
        ),
        (
            "efficientdet-d6 --set coco640",
            "efficientdet/coco640/efficientdet-d6-640.tar.gz",
            "efficientdet-d6-coco640",
            {"image_size": 640},
        ),
        (
            "efficientnet-b0",
            "efficientnet/ckptsaug/efficientnet-b0.tar.gz",
            "efficientnet-b0",
            {},
        ),
    ],
)
def test_each_name_is_asked_for_where_it_was_published(
    root, tmp_path, bucket, words, path, folder, hparams
):
    model, *flags = words.split()
    target = tmp_path / "weights" / folder
    said = download(root, bucket, model, tmp_path / "weights", *flags)
    assert bucket.asked == [(f"/{path}", 0)]
    flag = "--backbone_ckpt" if model.startswith("efficientnet") else "--ckpt"
    assert said.startswith(f"{target}: ready") and said.endswith(f"use {flag}={target}")
    assert (target / "checkpoint").read_bytes() == b"model"
    assert [entry.name for entry in target.parent.iterdir()] == [folder]
    found = target / "hparams.yaml"
    assert (load_yaml(found) if found.exists() else {}) == hparams
    assert "is there already" in download(root, bucket, model, target.parent, *flags)
    assert len(bucket.asked) == 1


@pytest.mark.parametrize("ranges", ["yes", "no"])
def test_an_interrupted_download_goes_on(root, tmp_path, bucket, ranges):
    bucket.ranges = ranges
    bucket.cuts = [2000, 1000, 0] if ranges == "yes" else [2000, 2000]
    said = download(root, bucket, MODEL, tmp_path, fails=True)
    came = 3000 if ranges == "yes" else 2000
    assert f"broke off at {came:,} of {len(bucket.content):,} bytes" in said
    assert "run the same command to go on" in said
    part = tmp_path / PART
    assert part.stat().st_size == came
    download(root, bucket, MODEL, tmp_path)
    starts = [start for _, start in bucket.asked]
    assert starts == ([0, 2000, 3000, 3000] if ranges == "yes" else [0, 0, 0])
    assert [entry.name for entry in tmp_path.iterdir()] == [MODEL]


def test_a_server_that_refuses_the_range_sends_everything(root, tmp_path, bucket):
    bucket.cuts = [2000, 0]
    download(root, bucket, MODEL, tmp_path, fails=True)
    bucket.ranges = "416"
    download(root, bucket, MODEL, tmp_path)
    assert (tmp_path / MODEL / "checkpoint").read_bytes() == b"model"


def test_other_bytes_than_asked_for_are_not_taken(root, tmp_path, bucket):
    bucket.cuts = [2000, 0]
    download(root, bucket, MODEL, tmp_path, fails=True)
    bucket.ranges = "wrong"
    said = download(root, bucket, MODEL, tmp_path, fails=True)
    assert "asked for bytes from 2000, got others" in said
    bucket.ranges = "yes"
    download(root, bucket, MODEL, tmp_path)


@pytest.mark.parametrize("ranges", ["yes", "no"])
@pytest.mark.parametrize("change", ["tag", "size", "between question and answer"])
def test_the_beginning_of_another_version_starts_over(root, tmp_path, bucket, change, ranges):
    bucket.ranges, bucket.tag = ranges, '"one"'
    bucket.cuts = [2000, 0] if ranges == "yes" else [2000, 2000]
    download(root, bucket, MODEL, tmp_path, fails=True)
    assert (tmp_path / PART).stat().st_size == 2000

    def new_version():
        if change == "size":
            bucket.content += gzip.compress(b"")
        else:
            same_size = (one for one in iter(archive, b"") if len(one) == len(bucket.content))
            bucket.content, bucket.tag = next(same_size), '"two"'

    if change == "between question and answer":
        bucket.after_head = new_version
    else:
        new_version()
    download(root, bucket, MODEL, tmp_path)
    assert bucket.asked[-1][1] == 0
    assert [entry.name for entry in tmp_path.iterdir()] == [MODEL]


@pytest.mark.parametrize(
    ("announced", "named"),
    [
        (100, "sent more than the 100 bytes"),
        (10**6, "of 1,000,000 bytes"),
        ("none", "does not say how long the file is"),
        ("-5", "does not say how long the file is"),
    ],
)
def test_a_length_that_is_not_so(root, tmp_path, bucket, announced, named):
    bucket.announced = announced
    assert named in download(root, bucket, MODEL, tmp_path, fails=True)
    assert not (tmp_path / MODEL).exists()


@pytest.mark.parametrize("knob", ["flag", "variable"])
def test_the_sha256_is_printed_and_compared(root, tmp_path, bucket, knob):
    digest = hashlib.sha256(bucket.content).hexdigest()

    def wanted(text):
        return ([f"--sha256={text}"], {}) if knob == "flag" else ([], {"SHA256": text})

    words, knobs = wanted("0" * 64)
    said = download(root, bucket, MODEL, tmp_path, *words, fails=True, **knobs)
    assert f"its SHA-256 is {digest}, expected {'0' * 64}; removed" in said
    assert not list(tmp_path.iterdir())
    words, knobs = wanted("12")
    assert "64 hexadecimal" in download(root, bucket, MODEL, tmp_path, *words, fails=True, **knobs)
    words, knobs = wanted(digest.upper())
    download(root, bucket, MODEL, tmp_path, *words, **knobs)
    said = download(root, bucket, MODEL, tmp_path, *words, fails=True, **knobs)
    assert "cannot be compared" in said


def test_what_was_complete_is_only_unpacked(root, tmp_path, bucket):
    (tmp_path / PART).write_bytes(bucket.content)
    download(root, bucket, MODEL, tmp_path)
    assert not bucket.asked and (tmp_path / MODEL / "checkpoint").exists()


def test_the_rest_of_another_file_is_dropped(root, tmp_path, bucket):
    (tmp_path / PART).write_bytes(bytes(len(bucket.content) + 1))
    download(root, bucket, MODEL, tmp_path)
    assert (tmp_path / MODEL / "checkpoint").exists()


def test_an_archive_without_a_folder_makes_one(root, tmp_path, bucket):
    bucket.content = archive(folder="")
    download(root, bucket, MODEL, tmp_path)
    assert (tmp_path / MODEL / "checkpoint").exists()
    assert [entry.name for entry in tmp_path.iterdir()] == [MODEL]


@pytest.mark.parametrize(
    "content",
    [b"<html>not found</html>" * 50, gzip.compress(b"no tar"), archive()[:4000], archive("../")],
    ids=["page", "no tar", "half", "outside"],
)
def test_something_else_is_not_unpacked(root, tmp_path, bucket, content):
    bucket.content = content
    folder = tmp_path / "weights"
    said = download(root, bucket, MODEL, folder, fails=True)
    assert "nothing was unpacked" in said
    assert not list(folder.iterdir()) and list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("efficientdet-d9", "unknown model 'efficientdet-d9': published are efficientdet-d0 .. d7"),
        ("efficientdet-d7 --set=advprop", "efficientdet-d7 is published as coco2, coco only"),
        ("efficientdet-lite0 --set=coco2", "efficientdet-lite0 is published as coco only"),
        ("efficientdet-d1 --set=coco640", "efficientdet-d1 is published as coco2, coco, advprop"),
        ("efficientnet-b0 --set=coco", "efficientnet-b0 is published as imagenet only"),
        ("efficientdet-d0 . --sets=coco", "unrecognized arguments: --sets=coco; see --help"),
        ("", "the following arguments are required: model; see --help"),
    ],
)
def test_what_was_never_published_is_said_at_once(root, bucket, words, named):
    assert named in download(root, bucket, *words.split(), fails=True)
    assert not bucket.asked


def test_a_server_without_the_file_is_named(root, tmp_path, bucket):
    bucket.paths.remove(path := f"efficientdet/coco2/{MODEL}.tar.gz")
    said = download(root, bucket, MODEL, tmp_path, fails=True)
    assert f"{path}: no answer (HTTP Error 404" in said and not list(tmp_path.iterdir())


def test_it_needs_only_the_standard_library(root):
    code = "import sys; from efficientdet.commands import download; print(*sys.modules)"
    python = Path(sys.executable)
    done = subprocess.run([python, "-S", "-c", code], cwd=root, capture_output=True, text=True)
    assert not done.returncode, done.stderr


def test_an_address_that_is_none_is_named(root, tmp_path, bucket):
    said = download(root, bucket, MODEL, tmp_path, fails=True, CHECKPOINT_URL="nowhere")
    assert said.startswith("error: nowhere/efficientdet/coco2/") and "no answer" in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_ended_while_it_unpacks_it_leaves_what_came_and_nothing_else(
    root, tmp_path, bucket, number
):
    code = f"""
import os, runpy
from efficientdet.checkpoint import archive
unpack = archive.unpack
def unpack_and_end(*paths):
    unpack(*paths)
    os.kill(os.getpid(), {int(number)})
archive.unpack = unpack_and_end
runpy.run_module("efficientdet.commands.download", run_name="__main__")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, MODEL, tmp_path],
        env=os.environ
        | {"PYTHONPATH": str(root), "CHECKPOINT_URL": bucket.address, "no_proxy": "127.0.0.1"},
        capture_output=True,
        text=True,
    )
    said = "interrupted" if number == signal.SIGINT else f"stopped by {number.name}"
    assert (done.returncode, done.stderr) == (
        128 + number,
        f"{said}; run the same command to go on\n",
    )
    assert {path.name for path in tmp_path.iterdir()} == {PART, f"{PART}.of"}
    download(root, bucket, MODEL, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [MODEL] and len(bucket.asked) == 1


def test_what_a_killed_process_was_unpacking_is_removed(root, tmp_path, bucket):
    (tmp_path / f".{MODEL}.unpacking").mkdir()
    (tmp_path / f".{MODEL}.unpacking/other.index").touch()
    download(root, bucket, MODEL, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [MODEL]
    assert not (tmp_path / MODEL / "other.index").exists()


def test_a_second_one_waits_and_finds_it_done(root, tmp_path, bucket):
    with ThreadPoolExecutor(2) as pool:
        said = list(pool.map(lambda _: download(root, bucket, MODEL, tmp_path), range(2)))
    assert sorted("is there already" in line for line in said) == [False, True]
    assert len(bucket.asked) == 1
