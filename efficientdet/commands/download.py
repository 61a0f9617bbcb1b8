"""Fetches a checkpoint that google/automl published, and unpacks it.

    bash scripts/download_checkpoint.sh efficientdet-d2 [FOLDER] [--set=SET]

leaves FOLDER/efficientdet-d2/ (FOLDER: the current one), to be used as --ckpt=efficientdet-d2.
Without --set these are the newest weights; another set lands in FOLDER/efficientdet-d2-SET/:

    coco2     D0 to D7, D7x: the newest
    coco      the same models, older; and lite0 to lite4, lite3x
    advprop   D0 to D5 with Det-AdvProp: a run from them scales its images to -1 .. 1
    coco640   D2 to D6 at 640x640
    imagenet  efficientnet-b0 to b7, for --backbone_ckpt

An interrupted download goes on where it stopped; nothing incomplete is ever unpacked. Its SHA-256
is printed; with --sha256=HEX (or SHA256=HEX) nothing else is unpacked.
CHECKPOINT_URL sets another base address.
"""

import argparse
import hashlib
import http.client
import os
import re
import sys
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from efficientdet.atomic import atomic_open
from efficientdet.checkpoint.archive import ArchiveError
from efficientdet.checkpoint.archive import unpack as unpack_archive
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


@dataclass(frozen=True)
class _Offer:
    """What a server says of a file: its size in bytes, and the tag of this very version, or ""."""

    size: int
    tag: str


def main() -> None:
    """Downloads what the command line names."""
    parser = _Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("folder", nargs="?", type=Path, default=Path())
    parser.add_argument("--set")
    parser.add_argument("--sha256", type=str.lower)
    given = parser.parse_args()
    if given.sha256 and not re.fullmatch("[0-9a-f]{64}", given.sha256):
        raise UsageError(f"--sha256={given.sha256}: expected 64 hexadecimal digits")
    chosen, path = find(given.model, given.set)
    newest = find(given.model)[0]
    target = given.folder / (given.model if chosen == newest else f"{given.model}-{chosen}")
    flag = "--backbone_ckpt" if chosen == "imagenet" else "--ckpt"
    if any(target.glob("*.index")):
        if given.sha256:
            raise UserError(
                f"{target} is there already, unpacked, so that --sha256 cannot be compared; remove "
                "the folder to download it again"
            )
        print(f"{target} is there already: use {flag}={target}")
        return
    url = f"{os.environ.get('CHECKPOINT_URL') or BASE}/{path}"
    part = given.folder / f"{target.name}{'.tgz' if path.endswith('.tgz') else '.tar.gz'}.part"
    part.parent.mkdir(parents=True, exist_ok=True)
    download(url, part)
    check_sha256(part, given.sha256, url)
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

    `part`.of says of what `part` is the beginning; of another version it starts over.

    Raises:
        UserError: no answer, or it broke off; what has come stays in `part`.
    """
    offer = _ask(url)
    _drop_if_other(part, url, offer)
    while (have := _size(part)) < offer.size:
        problem = "the answer ended"
        try:
            _append(url, part, offer)
        except (OSError, http.client.HTTPException) as error:
            problem = str(error)
        if _size(part) > offer.size:
            _remove(part)
            raise UserError(
                f"{url}: sent more than the {offer.size:,} bytes that it has; removed, try again"
            )
        if _size(part) <= have:
            raise UserError(
                f"{url}: the download broke off at {_size(part):,} of {offer.size:,} bytes "
                f"({problem}); run the same command to go on"
            )


def check_sha256(archive: Path, expected: str | None, url: str) -> None:
    """Prints the SHA-256 of `archive`.

    Raises:
        UserError: it is not `expected`; `archive` is removed.
    """
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if expected and found != expected:
        _remove(archive)
        raise UserError(
            f"{url}: its SHA-256 is {found}, expected {expected}; removed, nothing was unpacked"
        )
    print(f"SHA-256 {found} ({'as expected' if expected else url})")


def unpack(archive: Path, target: Path, hparams: str, url: str) -> None:
    """Makes `target` of the one folder in `archive` that holds a checkpoint; removes `archive`.

    Args:
        hparams: becomes `target`/hparams.yaml, which a run that starts there reads.

    Raises:
        UserError: no such archive; it is removed all the same, and `target` is not made.
    """
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
        problem = ""
        try:
            unpack_archive(archive, Path(folder))
        except ArchiveError as error:
            problem = f": {error}"
        found = {path.parent for path in Path(folder).rglob("*.index")}
        if problem or len(found) != 1:
            size = _size(archive)
            _remove(archive)
            raise UserError(
                f"{url}: complete ({size:,} bytes), but no archive of one checkpoint{problem}; "
                "removed, nothing was unpacked"
            )
        (source,) = found
        if hparams:
            (source / "hparams.yaml").write_text(hparams)
        source.chmod(0o755)
        source.rename(target)
    _remove(archive)


def _ask(url: str) -> _Offer:
    try:
        head = urllib.request.Request(url, method="HEAD")
        with urllib.request.urlopen(head, timeout=60) as answer:
            length, tag = answer.headers["Content-Length"], answer.headers["ETag"] or ""
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: no address
        raise UserError(f"{url}: no answer ({error}); is the network up?") from None
    if not re.fullmatch("[0-9]{1,15}", length or ""):
        raise UserError(f"{url}: the server does not say how long the file is; nothing was fetched")
    return _Offer(int(length), "" if tag.startswith("W/") else tag)  # a weak one proves nothing


def _drop_if_other(part: Path, url: str, offer: _Offer) -> None:
    """Removes a `part` that is the beginning of something else, and notes what it is now."""
    note, now = _note(part), f"{url}\n{offer.size}\n{offer.tag}\n"
    before = note.read_text(encoding="utf-8", errors="replace") if note.exists() else now
    if before != now or _size(part) > offer.size:
        print(f"{part}: of another file or version, starts over", file=sys.stderr)
        part.unlink(missing_ok=True)
    if before != now or not note.exists():
        with atomic_open(note) as file:
            file.write(now)


def _append(url: str, part: Path, offer: _Offer) -> None:
    """Reads `url` from where `part` ends; all of it from a server that does not continue."""
    have = _size(part)
    ranged = {"Range": f"bytes={have}-"} | ({"If-Range": offer.tag} if offer.tag else {})
    request = urllib.request.Request(url, headers=ranged if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=60)  # noqa: SIM115 (closed below)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # this server has no such place
            raise
        answer = urllib.request.urlopen(url, timeout=60)  # noqa: SIM115
    with answer:
        start = re.match(r"bytes (\d{1,15})-", answer.headers["Content-Range"] or "")
        goes_on = answer.status == 206
        if goes_on and start and int(start[1]) != have:
            raise http.client.HTTPException(f"asked for bytes from {have}, got others")
        with part.open("ab" if goes_on else "wb") as file:
            while block := answer.read(1 << 20):
                file.write(block)
                if sys.stderr.isatty():
                    progress = f"\r{file.tell() >> 20} of {offer.size >> 20} MB"
                    print(progress, end="", file=sys.stderr)
    if sys.stderr.isatty():
        print(file=sys.stderr)


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.of")


def _remove(part: Path) -> None:
    part.unlink()
    _note(part).unlink(missing_ok=True)


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
