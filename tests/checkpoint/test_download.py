import gzip
import http.server
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest

MODEL = "efficientdet-d2"


def archive():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in {"checkpoint": b"model", "model.index": os.urandom(5000)}.items():
            member = tarfile.TarInfo(f"{MODEL}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


class Bucket(http.server.BaseHTTPRequestHandler):
    """Serves `server.content` with Range; of the first answer only `server.cut` bytes."""

    protocol_version = "HTTP/1.0"

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        if not self.path.endswith(f"/{MODEL}.tar.gz"):
            self.send_error(404)
            return
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(match[1]) if match else 0
        content = self.server.content[start:]
        self.send_response(206 if match else 200)
        self.send_header("Content-Length", str(len(content)))
        if match:
            total = len(self.server.content)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.end_headers()
        if body:
            self.server.starts.append(start)
            cut, self.server.cut = self.server.cut, None
            self.wfile.write(content[:cut])

    def log_message(self, *args):
        pass


@pytest.fixture
def bucket():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    server.content, server.cut, server.starts = archive(), None, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(params=["curl", "wget", "python3"])
def path_with(request, tmp_path):
    """A PATH on which only one of the three ways to download exists."""
    tools = tmp_path / "bin"
    tools.mkdir()
    # The first python3 on PATH may be a shell script that finds the real one.
    python = Path(sys.executable).resolve()
    basics = ["bash", "env", "sed", "tr", "awk", "wc", "gzip", "tar", "mktemp", "mkdir", "mv", "rm"]
    for tool in [*basics, request.param]:
        found = python if tool == "python3" else shutil.which(tool)
        if not found:
            pytest.skip(f"needs {tool}, which is not installed here")
        (tools / tool).symlink_to(Path(found).resolve())
    return str(tools)


def download(root, folder, bucket, *, path=None, model=MODEL):
    env = os.environ | {
        "CHECKPOINT_URL": f"http://127.0.0.1:{bucket.server_port}/coco",
        "no_proxy": "127.0.0.1",
    }
    return subprocess.run(
        [root / "scripts/download_checkpoint.sh", model, folder],
        env=env | ({"PATH": path} if path else {}),
        capture_output=True,
        text=True,
    )


def test_interrupted_download_goes_on(root, tmp_path, bucket, path_with):
    bucket.cut = 2000
    folder = tmp_path / "weights"
    first = download(root, folder, bucket, path=path_with)
    if first.returncode:  # curl and python stop; wget goes on by itself
        assert "run the same command" in first.stderr
        assert not (folder / MODEL).exists()
        assert (folder / f"{MODEL}.tar.gz.part").stat().st_size == 2000
        second = download(root, folder, bucket, path=path_with)
        assert second.returncode == 0, second.stderr
    assert bucket.starts == [0, 2000]
    assert (folder / MODEL / "checkpoint").read_bytes() == b"model"
    assert [entry.name for entry in folder.iterdir()] == [MODEL]


def test_second_call_does_nothing(root, tmp_path, bucket):
    assert download(root, tmp_path, bucket).returncode == 0
    assert "already" in download(root, tmp_path, bucket).stdout
    assert len(bucket.starts) == 1


@pytest.mark.parametrize("content", [b"<html>not found</html>" * 50, gzip.compress(b"no tar")])
def test_something_else_is_not_unpacked(root, tmp_path, bucket, content):
    bucket.content = content
    finished = download(root, tmp_path, bucket)
    assert finished.returncode == 1
    assert "nothing was unpacked" in finished.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_wrong_names(root, tmp_path, bucket):
    unknown = download(root, tmp_path, bucket, model="efficientdet-d9")
    assert unknown.returncode == 1
    assert "'efficientdet-d9': expected efficientdet-d0 .. d7" in unknown.stderr
    unpublished = download(root, tmp_path, bucket, model="efficientdet-d3")
    assert unpublished.returncode == 1
    assert "efficientdet-d3.tar.gz" in unpublished.stderr.splitlines()[-1]
