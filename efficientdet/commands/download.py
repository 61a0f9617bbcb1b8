"""Fetches a checkpoint that google/automl published, and unpacks it.

    bash scripts/download_checkpoint.sh efficientdet-d2 [FOLDER] [--set=SET]

leaves FOLDER/efficientdet-d2/ (FOLDER: the current one), to be used as --ckpt=efficientdet-d2.
Without --set these are the newest weights; another set lands in FOLDER/efficientdet-d2-SET/:

    coco2     D0 to D7, D7x: the newest
    coco      the same models, older; and lite0 to lite4, lite3x
    advprop   D0 to D5 with Det-AdvProp: a run from them scales its images to -1 .. 1
    coco640   D2 to D6 at 640x640
    imagenet  efficientnet-b0 to b7, for --backbone_ckpt

An interrupted download goes on where it stopped; nothing incomplete is ever unpacked.
CHECKPOINT_URL sets another base address.
"""

import argparse
import gzip
import http.client
import os
import sys
import tarfile
import tempfile
import urllib.request
import zlib
from pathlib import Path
from typing import NoReturn

from efficientdet.errors import UsageError, UserError

BASE = "https://storage.googleapis.com/cloud-tpu-checkpoints"
_D = [f"efficientdet-d{size}" for size in ["0", "1", "2", "3", "4", "5", "6", "7", "7x"]]
_LITE = [f"efficientdet-lite{size}" for size in ["0", "1", "2", "3", "3x", "4"]]
_PUBLISHED = (  # set, path, models; the first row that has a model is its newest
    ("coco2", "efficientdet/coco2/{}.tar.gz", _D),
    ("coco", "efficientdet/coco/{}.tar.gz", _D),
    ("coco", "efficientdet/coco/{}.tgz", _LITE),
    ("advprop", "efficientdet/advprop/{}.tar.gz", _D[:6]),
    ("coco640", "efficientdet/coco640/{}-640.tar.gz", _D[2:7]),
    ("imagenet", "efficientnet/ckptsaug/{}.tar.gz", [f"efficientnet-b{size}" for size in range(8)]),
)
# What a run that starts from these weights begins with where nobody says otherwise.
_HPARAMS = {
    "advprop": "mean_rgb: 127.5\nstddev_rgb: 127.5\n",
    "coco640": "image_size: 640\n",
}


def main() -> None:
    """Downloads what the command line names."""
    parser = _Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("folder", nargs="?", type=Path, default=Path())
    parser.add_argument("--set")
    given = parser.parse_args()
    chosen, path = find(given.model, given.set)
    newest = find(given.model)[0]
    target = given.folder / (given.model if chosen == newest else f"{given.model}-{chosen}")
    flag = "--backbone_ckpt" if chosen == "imagenet" else "--ckpt"
    if any(target.glob("*.index")):
        print(f"{target} is there already: use {flag}={target}")
        return
    url = f"{os.environ.get('CHECKPOINT_URL') or BASE}/{path}"
    part = given.folder / f"{target.name}{'.tgz' if path.endswith('.tgz') else '.tar.gz'}.part"
    part.parent.mkdir(parents=True, exist_ok=True)
    download(url, part)
    unpack(part, target, _HPARAMS.get(chosen, ""), url)
    print(f"{target}: ready ({chosen}), use {flag}={target}")


def find(model: str, chosen: str | None = None) -> tuple[str, str]:
    """(set, path below the base address) of the weights of `model`; the newest without `chosen`.

    Raises:
        UsageError: never published; lists what was.
    """
    paths: dict[str, str] = {}
    for name, path, models in _PUBLISHED:
        if model in models:
            paths.setdefault(name, path.format(model))
    if not paths:
        raise UsageError(
            f"unknown model {model!r}: published are efficientdet-d0 .. d7, d7x, "
            "efficientdet-lite0 .. lite4, lite3x and efficientnet-b0 .. b7"
        )
    if chosen is None:
        return next(iter(paths.items()))
    if chosen not in paths:
        raise UsageError(f"--set={chosen}: {model} is published as {', '.join(paths)} only")
    return chosen, paths[chosen]


def download(url: str, part: Path) -> None:
    """Completes the file `part` with what is missing of `url`; tries again while it gets further.

    Raises:
        UserError: no answer, or it broke off; what has come stays in `part`.
    """
    head = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.urlopen(head, timeout=60) as answer:
            total = int(answer.headers["Content-Length"])
    except (OSError, http.client.HTTPException, TypeError) as error:
        raise UserError(f"{url}: no answer ({error}); is the network up?") from None
    if _size(part) > total:  # of another file
        part.unlink()
    while (have := _size(part)) < total:
        problem = "the answer ended"
        try:
            _append(url, part, total)
        except (OSError, http.client.HTTPException) as error:
            problem = str(error)
        if _size(part) <= have:
            raise UserError(
                f"{url}: the download broke off at {have:,} of {total:,} bytes ({problem}); run "
                "the same command to go on"
            )


def unpack(archive: Path, target: Path, hparams: str, url: str) -> None:
    """Makes `target` of the one folder in `archive` that holds a checkpoint; removes `archive`.

    Args:
        hparams: becomes `target`/hparams.yaml, which a run that starts there reads.

    Raises:
        UserError: no such archive; it is removed all the same, and `target` is not made.
    """
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
        try:
            with tarfile.open(archive, "r:gz") as tar:
                tar.extractall(folder, filter="data")
            (found,) = {path.parent for path in Path(folder).rglob("*.index")}
        except (tarfile.TarError, EOFError, ValueError, zlib.error, gzip.BadGzipFile):
            size = _size(archive)
            archive.unlink()
            raise UserError(
                f"{url}: complete ({size:,} bytes), but no archive of one checkpoint; removed, "
                "nothing was unpacked"
            ) from None
        if hparams:
            (found / "hparams.yaml").write_text(hparams)
        found.chmod(0o755)
        found.rename(target)
    archive.unlink()


def _append(url: str, part: Path, total: int) -> None:
    """Reads `url` from where `part` ends."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={_size(part)}-"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        # A server that does not continue sends everything from the start.
        with part.open("ab" if answer.status == 206 else "wb") as file:
            while block := answer.read(1 << 20):
                file.write(block)
                if sys.stderr.isatty():
                    print(f"\r{file.tell() >> 20} of {total >> 20} MB", end="", file=sys.stderr)
    if sys.stderr.isatty():
        print(file=sys.stderr)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see --help")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:  # full or read-only disk, no permission
        print(f"error: {error.filename or 'cannot write'}: {error.strerror}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("\ninterrupted; run the same command to go on", file=sys.stderr)
        sys.exit(130)
