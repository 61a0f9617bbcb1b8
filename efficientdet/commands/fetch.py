"""Fetches a file from a server to its last byte, and goes on where it stopped.

It needs the standard library alone: the scripts that download run before the installation.
"""

import argparse
import hashlib
import http.client
import re
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from efficientdet.atomic import atomic_open
from efficientdet.commands.transfer import transfer
from efficientdet.errors import UsageError, UserError


@dataclass(frozen=True)
class Offer:
    """What a server says of a file: its size in bytes, and the tag of this very version, or ""."""

    url: str
    size: int
    tag: str


def ask(url: str) -> Offer:
    """What lies at `url`.

    Raises:
        UserError: no answer, or one without a length.
    """
    try:
        head = urllib.request.Request(url, method="HEAD")
        with urllib.request.urlopen(head, timeout=60) as answer:
            length, tag = answer.headers["Content-Length"], answer.headers["ETag"] or ""
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: no address
        raise UserError(f"{url}: no answer ({error}); is the network up?") from None
    if not re.fullmatch("[0-9]{1,15}", length or ""):
        raise UserError(f"{url}: the server does not say how long the file is; nothing was fetched")
    return Offer(url, int(length), "" if tag.startswith("W/") else tag)  # a weak one proves nothing


def fetch(offer: Offer, part: Path) -> None:
    """Completes the file `part` with what is missing of it; tries again while it gets further.

    `part`.of says of what `part` is the beginning; of another version it starts over.

    Raises:
        UserError: no answer, or it broke off; what has come stays in `part`.
    """
    url = offer.url
    _drop_if_other(part, offer)
    while (have := size_of(part)) < offer.size:
        problem = "the answer ended"
        try:
            _append(part, offer)
        except (OSError, http.client.HTTPException) as error:
            problem = str(error)
        if size_of(part) > offer.size:
            remove(part)
            raise UserError(
                f"{url}: sent more than the {offer.size:,} bytes that it has; removed, try again"
            )
        if size_of(part) <= have:
            raise UserError(
                f"{url}: the download broke off at {size_of(part):,} of {offer.size:,} bytes "
                f"({problem}); run the same command to go on"
            )


def check_sha256(archive: Path, expected: str | None, source: object) -> str:
    """Prints the SHA-256 of `archive`, and returns it.

    Args:
        expected: in lower case.
        source: where it comes from, for messages.

    Raises:
        UserError: it is not `expected`.
    """
    digest = hashlib.sha256()
    with archive.open("rb") as file, transfer(f"checking {archive.name}", size_of(archive)) as show:
        while block := file.read(1 << 20):
            digest.update(block)
            show(file.tell())
    found = digest.hexdigest()
    if expected and found != expected:
        raise UserError(f"{source}: its SHA-256 is {found}, expected {expected}")
    print(f"SHA-256 {found} ({'as expected' if expected else source})")
    return found


class Parser(argparse.ArgumentParser):
    """Errors on one line, as every command has them."""

    def error(self, message: str) -> NoReturn:
        """Raises UsageError, which `ending.run` prints."""
        raise UsageError(f"{message}; see --help")


def require_sha256(flag: str, text: str | None) -> None:
    """Raises UsageError where `text` is given and can be no SHA-256."""
    if text and not re.fullmatch("[0-9a-f]{64}", text):
        raise UsageError(f"--{flag}={text}: expected 64 hexadecimal digits")


def remove(part: Path) -> None:
    """Removes a `part`, complete or not."""
    part.unlink()
    forget(part)


def forget(part: Path) -> None:
    """Removes what was noted of `part`, which is complete."""
    _note(part).unlink(missing_ok=True)


def size_of(path: Path) -> int:
    """Bytes; 0 where there is no such file."""
    return path.stat().st_size if path.exists() else 0


def _drop_if_other(part: Path, offer: Offer) -> None:
    """Removes a `part` that is the beginning of something else, and notes what it is now."""
    note, now = _note(part), f"{offer.url}\n{offer.size}\n{offer.tag}\n"
    before = note.read_text(encoding="utf-8", errors="replace") if note.exists() else now
    if before != now or size_of(part) > offer.size:
        print(f"{part}: of another file or version, starts over", file=sys.stderr)
        part.unlink(missing_ok=True)
    if before != now or not note.exists():
        with atomic_open(note) as file:
            file.write(now)


def _append(part: Path, offer: Offer) -> None:
    """Reads from where `part` ends; all of it from a server that does not continue."""
    have = size_of(part)
    ranged = {"Range": f"bytes={have}-"} | ({"If-Range": offer.tag} if offer.tag else {})
    request = urllib.request.Request(offer.url, headers=ranged if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=60)  # noqa: SIM115 (closed below)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # this server has no such place
            raise
        answer = urllib.request.urlopen(offer.url, timeout=60)  # noqa: SIM115
    with answer:
        start = re.match(r"bytes (\d{1,15})-", answer.headers["Content-Range"] or "")
        goes_on = answer.status == 206
        if goes_on and start and int(start[1]) != have:
            raise http.client.HTTPException(f"asked for bytes from {have}, got others")
        what = f"fetching {part.name.removesuffix('.part')}"
        with part.open("ab" if goes_on else "wb") as file:
            with transfer(what, offer.size, file.tell()) as show:
                while block := answer.read(1 << 20):
                    file.write(block)
                    show(file.tell())


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.of")
