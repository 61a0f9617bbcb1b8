"""A server on the loopback interface that serves files, and fails in the ways that servers do."""

import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Bucket(http.server.ThreadingHTTPServer):
    """Serves `content` at each of `paths`, `cuts` bytes of each answer; other bytes at `files`.

    `ranges` says what it makes of Range: `yes`, `no` (sends everything), `416` or `wrong` (sends
    from the start and says so); `announced` is the length that HEAD tells. `asked` holds path and
    first byte of each answer with a body.
    """

    def __init__(self, paths=()):
        super().__init__(("127.0.0.1", 0), _Answer)
        self.paths, self.files, self.content = set(paths), {}, b""
        self.cuts, self.asked = [], []
        self.ranges, self.tag, self.announced = "yes", "", None
        self.after_head = lambda: None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serving(bucket: Bucket) -> Iterator[Bucket]:
    """The server answers while entered."""
    threading.Thread(target=bucket.serve_forever, daemon=True).start()
    try:
        yield bucket
    finally:
        bucket.shutdown()
        bucket.server_close()


class _Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        server, path = self.server, self.path.removeprefix("/")
        if path not in server.files and path not in server.paths:
            self.send_error(404)
            return
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if match and server.ranges == "416":
            self.send_error(416)
            return
        if self.headers.get("If-Range", server.tag) != server.tag:
            match = None
        start = int(match[1]) if match and server.ranges == "yes" else 0
        content = server.files.get(path, server.content)[start:]
        self.send_response(206 if match and server.ranges != "no" else 200)
        if server.tag:
            self.send_header("ETag", server.tag)
        if match and server.ranges == "wrong":
            self.send_header("Content-Range", f"bytes 0-{len(content) - 1}/{len(content)}")
        length = len(content) if body else server.announced or len(content)
        if length != "none":
            self.send_header("Content-Length", str(length))
        if not body:
            server.after_head()
        self.end_headers()
        if body:
            server.asked.append((self.path, start))
            self.wfile.write(content[: server.cuts.pop(0) if server.cuts else None])

    def log_message(self, *args):
        pass
