"""Fetches KITTI's images and labels, and unpacks them: scripts/download_kitti.sh --help.

It needs the standard library alone.
"""

import argparse
import logging
import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from efficientdet.commands import ending, fetch
from efficientdet.commands.transfer import in_gigabytes, transfer
from efficientdet.dataset import kitti_zip
from efficientdet.dataset.kitti_zip import ZipError
from efficientdet.errors import UserError
from efficientdet.run.lock import writing_alone

BASE = "https://s3.eu-central-1.amazonaws.com/avg-kitti"
LICENCE = "KITTI's data are under CC BY-NC-SA 3.0: https://www.cvlibs.net/datasets/kitti"
FILES = {"training/label_2": 7481, "training/image_2": 7481, "testing/image_2": 7518}


@dataclass(frozen=True)
class _Zip:
    """What is published. `growth`: unpacked bytes of training alone, and of all, over its own."""

    name: str
    folder: str
    flag: str
    sha256: str
    growth: tuple[float, float]


_ZIPS = (
    _Zip(
        "data_object_label_2.zip",
        "label_2",
        "labels_sha256",
        "4efc76220d867e1c31bb980bbf8cbc02599f02a9cb4350effa98dbb04aaed880",
        (6.0, 6.0),  # a file takes 4 KB of a disk, however short it is
    ),
    _Zip(
        "data_object_image_2.zip",
        "image_2",
        "images_sha256",
        "351c5a2aa0cd9238b50174a3a62b846bc5855da256b82a196431d60ff8d43617",
        (0.52, 1.03),
    ),
)


def main() -> None:
    """Completes the folder that the command line names."""
    given = _given()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    wanted = [name for name in FILES if given.testing or not name.startswith("testing")]
    if _missing(given.folder, wanted):
        with writing_alone(given.folder):
            _complete(given, _missing(given.folder, wanted))
    for name in wanted:
        files = sum(1 for _ in (given.folder / name).iterdir())
        note = "" if files == FILES[name] else f" (KITTI has {FILES[name]:,})"
        print(f"{given.folder / name}: {files:,} files{note}")
    kept = [given.folder / one.name for one in _ZIPS if (given.folder / one.name).exists()]
    if kept:
        print(f"the zips are no longer needed: rm {shlex.join(map(str, kept))}")
    print(f"next: KITTI_ROOT={shlex.quote(str(given.folder))} bash scripts/convert.sh")


def _given() -> argparse.Namespace:
    parser = fetch.Parser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("KIT"))
    parser.add_argument("--zips", type=Path)
    parser.add_argument("--testing", action="store_true")
    for one in _ZIPS:
        parser.add_argument(f"--{one.flag}", type=str.lower)
    given = parser.parse_args()
    for one in _ZIPS:
        fetch.require_sha256(one.flag, getattr(given, one.flag))
    return given


def _missing(folder: Path, wanted: list[str]) -> list[str]:
    """Those of `wanted` that are not there; an empty folder is none."""
    missing = []
    for name in wanted:
        target = folder / name
        if target.is_dir() and any(target.iterdir()):
            continue
        if target.is_symlink() or (target.exists() and not target.is_dir()):
            raise UserError(
                f"{target}: a file, or a link to nothing; expected a folder of frames, or nothing: "
                "remove it"
            )
        missing.append(name)
    return missing


def _complete(given: argparse.Namespace, missing: list[str]) -> None:
    needed = {
        one: names for one in _ZIPS if (names := [name for name in missing if one.folder in name])
    }
    source = given.zips or given.folder
    absent = [one for one in needed if not (source / one.name).is_file()]
    if absent and given.zips:
        raise UserError(f"{source / absent[0].name}: no such file; ZIPS names the folder it is in")
    _fetch(given, absent)
    for one in needed:
        expected = getattr(given, one.flag)
        if expected and one not in absent:
            fetch.check_sha256(source / one.name, expected, source / one.name)
    for one, names in needed.items():
        _unpack(source / one.name, names, given.folder)


def _fetch(given: argparse.Namespace, absent: list[_Zip]) -> None:
    """Leaves each of `absent` complete in the folder."""
    base = (os.environ.get("KITTI_URL") or BASE).rstrip("/")
    offers = [fetch.ask(f"{base}/{one.name}") for one in absent]
    parts = [given.folder / f"{one.name}.part" for one in absent]
    bytes_needed = 0
    for one, offer, part in zip(absent, offers, parts, strict=True):
        bytes_needed += max(0, offer.size - fetch.size_of(part))
        bytes_needed += int(offer.size * one.growth[given.testing])
    _require_room(given.folder, bytes_needed)
    if absent:
        print(LICENCE, flush=True)
    for one, offer, part in zip(absent, offers, parts, strict=True):
        fetch.fetch(offer, part)
        try:
            found = fetch.check_sha256(part, getattr(given, one.flag), offer.url)
            kitti_zip.frames_of(part)
        except (UserError, ZipError) as error:
            fetch.remove(part)
            what = error if isinstance(error, UserError) else f"{offer.url}: {error}"
            raise UserError(f"{what}; removed, nothing was unpacked") from None
        note = "the published one" if found == one.sha256 else "not the one known as published"
        print(f"{one.name}: {note}", flush=True)
        part.replace(given.folder / one.name)
        fetch.forget(part)


def _unpack(archive: Path, names: list[str], folder: Path) -> None:
    """Makes the folders `names` below `folder`."""
    try:
        frames = kitti_zip.frames_of(archive)
        for name in names:
            if name not in frames:
                raise ZipError(f"holds no files {name}/...")
        _require_room(
            folder,
            sum(
                kitti_zip.room(frames[name]) - kitti_zip.unpacked(frames[name], folder / name)
                for name in names
            ),
        )
        for name in names:
            members = frames[name]
            size = sum(member.file_size for member in members.values())
            with transfer(f"unpacking {name}", size) as show:
                kitti_zip.unpack(archive, members, folder / name, show)
    except ZipError as error:
        raise UserError(
            f"{archive}: {error}; get it again: remove it, and the same command without ZIPS "
            "fetches it"
        ) from None


def _require_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{folder}: {in_gigabytes(needed)} are needed, {in_gigabytes(free)} are free; free "
            "some, or name a folder on another disk"
        )


if __name__ == "__main__":
    ending.run(main, "run the same command to go on")
