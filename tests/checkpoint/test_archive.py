"""Archives are unpacked whole or refused, on every Python 3.11, by our own checks alone."""

import contextlib
import gzip
import io
import random
import shutil
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientdet.checkpoint import archive
from efficientdet.checkpoint.archive import ArchiveError, unpack


def member(name, content=b"x", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def tgz(*members, format=tarfile.PAX_FORMAT):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=format) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def without_filters(monkeypatch):
    """Python 3.11.0 to 3.11.3: no `filter=`; and nothing is left to tarfile's own extraction."""
    monkeypatch.delattr(tarfile, "data_filter", raising=False)
    monkeypatch.delattr(tarfile.TarFile, "extract")
    monkeypatch.delattr(tarfile.TarFile, "extractall")


@pytest.fixture
def opened(tmp_path):
    """(content of an archive) -> the files of it, in a folder that lies in another."""

    def open_archive(content):
        packed, folder = tmp_path / "some.tar.gz", tmp_path / "outer" / "inner"
        packed.write_bytes(content)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        before = {*tmp_path.rglob("*")}
        try:
            unpack(packed, folder)
        finally:
            outside = {*tmp_path.rglob("*")} - before - {*folder.rglob("*")}
            assert not outside and not any(path.is_symlink() for path in folder.rglob("*"))
        files = (path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}

    return open_archive


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_people_pack_is_unpacked(opened, format):
    long = "run/" + "a" * 90 + "/" + "b" * 90
    folder = member("run/", b"", type=tarfile.DIRTYPE, mode=0)
    files = [member("run/model.index", b"1" * 5000, mode=0), member("./top", b""), member(long)]
    files += [member("실험/모델 1.index", b"2")]
    found = opened(tgz(folder, *files, format=format))
    assert found == {
        "run/model.index": b"1" * 5000,
        "top": b"",
        long: b"x",
        "실험/모델 1.index": b"2",
    }


@pytest.mark.parametrize(
    "bad",
    [
        member("/etc/passwd"),
        member("../outside"),
        member("run/../../outside"),
        member("run/./file"),
        member("C:\\run"),
        member("C:run"),
        member("run\\..\\..\\file"),
        member("a\nb"),
        member("\udcff"),
        member("", b"x"),
        member("link", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("link", b"", type=tarfile.SYMTYPE, linkname="run/model"),
        member("link", b"", type=tarfile.LNKTYPE, linkname="run/model"),
        member("pipe", b"", type=tarfile.FIFOTYPE),
        member("device", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=5),
        member("disk", b"", type=tarfile.BLKTYPE),
        member("sparse", pax_headers={"GNU.sparse.map": "0,1", "GNU.sparse.size": "9" * 15}),
        member("run/model", b"again"),
        member("run/model/below", b"a file that is a folder"),
        member("run", b"a folder that is a file"),
        member("a" * 300, b"no disk has it"),
    ],
    ids=lambda bad: repr(bad[0].name)[:20],
)
def test_what_no_checkpoint_holds_is_refused(opened, bad):
    with pytest.raises((ArchiveError, OSError)) as error:
        opened(tgz(member("run/model"), bad))
    assert isinstance(error.value, ArchiveError) or "File name too long" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_link_does_not_lead_the_next_file_astray(opened, tmp_path):
    link = member("away", b"", type=tarfile.SYMTYPE, linkname=str(tmp_path))
    with pytest.raises(ArchiveError, match="'away', which is no plain file"):
        opened(tgz(link, member("away/file")))


def test_there_is_an_end_to_files_and_bytes(opened, monkeypatch):
    many = tgz(*(member(f"file{i}", b"") for i in range(12)))
    monkeypatch.setattr(archive, "MAX_FILES", 12)
    assert len(opened(many)) == 12
    monkeypatch.setattr(archive, "MAX_FILES", 11)
    with pytest.raises(ArchiveError, match="more than 11 entries"):
        opened(many)
    monkeypatch.setattr(archive, "_FREE_BYTES", 1 << 20)
    with pytest.raises(ArchiveError, match="unpacks to more than"):
        opened(tgz(member("zeros", bytes(4 << 20))))
    assert opened(tgz(member("weights", random.Random(0).randbytes(4 << 20))))
    monkeypatch.setattr(archive, "MAX_BYTES", 1 << 20)
    with pytest.raises(ArchiveError, match="unpacks to more than 1,048,576 bytes"):
        opened(tgz(member("more weights", random.Random(0).randbytes(2 << 20))))


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_name_cannot_fill_the_memory(opened, format):
    with pytest.raises(ArchiveError, match="a name of over a megabyte"):
        opened(tgz(member("a/" * (1 << 20) + "b"), format=format))


def test_headers_of_headers_of_headers(opened):
    """tarfile reads them by recursion."""
    header = tarfile.TarInfo._create_pax_generic_header({"a": "b"}, tarfile.XHDTYPE, "utf-8")
    with pytest.raises(ArchiveError):
        opened(gzip.compress(900 * header))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_no_part_of_an_archive_passes(opened, share):
    whole = tgz(member("run/model", random.Random(0).randbytes(3000)))
    with pytest.raises(ArchiveError, match="not a readable .tar.gz"):
        opened(whole[: int(share * len(whole))])


def test_the_checksum_behind_the_last_file_is_compared(opened):
    whole = bytearray(tgz(member("run/model", b"weights")))
    whole[-8] ^= 1
    with pytest.raises(ArchiveError, match="CRC"):
        opened(bytes(whole))


@settings(derandomize=True, max_examples=150, deadline=None)
@given(data=st.data())
def test_damage_is_an_archive_error_or_nothing(tmp_path_factory, data):
    plain = bytearray(gzip.decompress(tgz(member("run/model", b"a" * 700), member("é" * 120))))
    for _ in range(data.draw(st.integers(1, 4))):
        plain[data.draw(st.integers(0, 5000)) % len(plain)] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.mktemp("fuzzed")
    packed = folder / "some.tar.gz"
    packed.write_bytes(gzip.compress(bytes(plain), 1))
    with contextlib.suppress(ArchiveError):
        unpack(packed, folder / "inner")
    assert {path.name for path in folder.iterdir()} <= {"some.tar.gz", "inner"}
