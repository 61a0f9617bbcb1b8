"""Frames come out of a zip whole, all or none, and nowhere else."""

import contextlib
import io
import struct
import tempfile
import zipfile
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientdet.dataset.kitti_zip import ZipError, frames_of, room, unpack, unpacked

NAMES = [f"{number:06d}.png" for number in range(5)]
FOLDER = "training/image_2"


def content(name: str) -> bytes:
    return name.encode() * 500


def packed(path: Path, *names: str, method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(f"{FOLDER}/", b"")
        for name in names or [f"{FOLDER}/{name}" for name in NAMES]:
            archive.writestr(name, content(name.rpartition("/")[2]))
    return path


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return packed(tmp_path / "사진.zip")


def out_of(archive: Path, target: Path, show=lambda done: None) -> None:
    unpack(archive, frames_of(archive)[FOLDER], target, show)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_frames_lie_in_their_folder(archive: Path, tmp_path: Path) -> None:
    done: list[int] = []
    target = tmp_path / "한국" / FOLDER
    out_of(archive, target, done.append)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {
        name: content(name) for name in NAMES
    }
    assert done == [5000, 10000, 15000, 20000, 25000]
    assert [path.name for path in target.parent.iterdir()] == ["image_2"]
    assert room(frames_of(archive)[FOLDER]) == 5 * 8192


def test_interrupted_it_goes_on_with_what_is_whole(archive: Path, tmp_path: Path) -> None:
    target = tmp_path / FOLDER

    def end(done: int) -> None:
        if done == 15000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        out_of(archive, target, end)
    assert not target.exists()
    half = target.parent / ".image_2.unpacking"
    assert left(half) == NAMES[:3]
    assert unpacked(frames_of(archive)[FOLDER], target) == 3 * 8192
    (half / NAMES[0]).write_bytes(b"half")  # of a power cut
    (half / NAMES[1]).write_bytes(content(NAMES[1])[:-1] + b"x")
    (half / "999999.png").write_bytes(b"of another zip")
    before = (half / NAMES[2]).stat().st_mtime_ns, (half / NAMES[2]).stat().st_ino
    out_of(archive, target)
    assert left(target) == NAMES and not half.exists()
    assert all((target / name).read_bytes() == content(name) for name in NAMES)
    now = (target / NAMES[2]).stat()
    assert (now.st_mtime_ns, now.st_ino) == before  # was not written again


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_flipped_bit_is_found(tmp_path: Path, method: int) -> None:
    archive = packed(tmp_path / "a.zip", method=method)
    member = frames_of(archive)[FOLDER][NAMES[3]]
    sound = archive.read_bytes()
    data = bytearray(sound)
    data[member.header_offset + 30 + len(member.filename) + 5] ^= 1
    archive.write_bytes(data)
    with pytest.raises(ZipError, match=f"{FOLDER}/{NAMES[3]} is damaged"):
        out_of(archive, tmp_path / FOLDER)
    assert not (tmp_path / FOLDER).exists()
    archive.write_bytes(sound)
    out_of(archive, tmp_path / FOLDER)
    assert all((tmp_path / FOLDER / name).read_bytes() == content(name) for name in NAMES)


EDIT = st.tuples(st.integers(0, 3), st.integers(0, 1 << 16), st.binary(max_size=8))


@settings(deadline=None, derandomize=True, max_examples=200)
@given(st.lists(EDIT, min_size=1, max_size=4), st.sampled_from([0, 8]))
def test_whatever_is_damaged_is_refused_or_harmless(edits: list, method: int) -> None:
    """What comes out has the right bytes; nothing but ZipError comes of the rest."""
    with tempfile.TemporaryDirectory() as folder:
        archive, target = Path(folder, "a.zip"), Path(folder, FOLDER)
        data = bytearray(packed(archive, method=method).read_bytes())
        for kind, place, noise in edits:
            place %= len(data)
            data[place : place + (len(noise) if kind else 0)] = noise if kind < 3 else b""
        archive.write_bytes(data)
        with contextlib.suppress(ZipError, KeyError), mock.patch("os.sync"):  # which is slow
            out_of(archive, target)
        found = {path.name: path.read_bytes() for path in target.parent.glob("image_2/*")}
        assert all(found[name] == content(name) for name in found.keys() & set(NAMES))


@pytest.mark.parametrize("size", [0, 100, -1, -30])
def test_half_a_zip_is_none(archive: Path, size: int) -> None:
    archive.write_bytes(archive.read_bytes()[:size])
    with pytest.raises(ZipError, match="no complete zip"):
        frames_of(archive)


def test_an_encrypted_or_strange_member_is_refused(archive: Path, tmp_path: Path) -> None:
    whole = archive.read_bytes()
    for place, value in ((8, 1), (10, 99)):  # of the central directory: flags, method
        data = bytearray(whole)
        entry = data.find(b"PK\1\2", data.find(b"PK\1\2") + 1)
        struct.pack_into("<H", data, entry + place, value)
        archive.write_bytes(data)
        with pytest.raises(ZipError, match=f"{NAMES[0]} is damaged"):
            out_of(archive, tmp_path / FOLDER)


def test_only_frames_are_taken(tmp_path: Path) -> None:
    names = [
        "../training/image_2/000001.png", "/training/image_2/000001.png",
        "training/image_2/../../000001.png", "training/image_2/.hidden.png",
        "training/image_2/000001.sh", "training/image_2/a/000001.png", "x/training/label_2/1.txt",
        "training/image_3/000001.png", "training\\image_2\\000001.png", "training/image_2/１.png",
    ]  # fmt: skip
    assert frames_of(packed(tmp_path / "bad.zip", *names)) == {}
    both = packed(tmp_path / "both.zip", "training/label_2/000001.txt", "testing/image_2/7.jpg")
    assert {name: list(members) for name, members in frames_of(both).items()} == {
        "training/label_2": ["000001.txt"],
        "testing/image_2": ["7.jpg"],
    }


def test_a_file_twice_is_refused(tmp_path: Path) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        for _ in range(2):
            archive.writestr(f"{FOLDER}/{NAMES[0]}", b"1")
    (tmp_path / "twice.zip").write_bytes(data.getvalue())
    with pytest.raises(ZipError, match=f"holds {FOLDER}/{NAMES[0]} twice"):
        frames_of(tmp_path / "twice.zip")
