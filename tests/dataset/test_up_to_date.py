"""A record that is there already: when it is taken as it is, and when it is refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from efficientdet.dataset.convert import convert
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.manifest import Manifest, manifest_path
from efficientdet.dataset.options import Options
from efficientdet.dataset.selection import select_frames
from efficientdet.errors import UserError

KITTI = LabelMap.kitti()
OTHER_IMAGE = r"out.record exists already \(made from other input: frame 000001 is not the same\)"


@pytest.fixture
def kitti(make_kitti) -> Path:
    """A converted folder of four frames."""
    root = make_kitti()
    assert run(root) is not None
    return root


def run(root: Path, num_shards: int = 1, **how) -> Manifest | None:
    options = Options(subset="all", num_shards=num_shards)
    return convert(select_frames(root, options), root / "out.record", KITTI, options, **how)


def change_a_pixel(root: Path, *, keep_time: bool = False) -> None:
    """Another image of the same size, under the same name."""
    path = root / "training" / "image_2" / "000001.png"
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    os.utime(path, ns=times if keep_time else (times[0], times[1] + 10**9))


def test_an_image_of_the_same_size_is_another_image(kitti):
    change_a_pixel(kitti)
    with pytest.raises(UserError, match=OTHER_IMAGE):
        run(kitti)
    assert run(kitti, overwrite=True) is not None and run(kitti) is None


def test_verify_reads_what_has_kept_its_time(kitti):
    assert run(kitti, verify=True) is None
    change_a_pixel(kitti, keep_time=True)
    assert run(kitti) is None  # by names, sizes and times
    with pytest.raises(UserError, match=OTHER_IMAGE):
        run(kitti, verify=True)


def test_a_touched_image_is_compared_once_and_remembered(kitti):
    record, manifest = kitti / "out.record", Manifest.read(kitti / "out.record")
    before = record.stat().st_mtime_ns
    os.utime(kitti / "training" / "image_2" / "000001.png", ns=(0, 0))
    assert run(kitti) is None
    again = Manifest.read(record)
    assert record.stat().st_mtime_ns == before and again.inputs_sha256 != manifest.inputs_sha256
    again.inputs_sha256 = manifest.inputs_sha256
    assert again == manifest
    written = manifest_path(record).stat().st_mtime_ns
    assert run(kitti) is None and manifest_path(record).stat().st_mtime_ns == written


def test_a_manifest_from_before_times_were_kept_is_up_to_date(kitti):
    manifest = Manifest.read(kitti / "out.record")
    manifest.inputs_sha256 = "0" * 64
    manifest.write(kitti / "out.record")
    assert run(kitti) is None
    assert Manifest.read(kitti / "out.record").inputs_sha256 != "0" * 64


def test_verify_reads_shards_and_notices_a_damaged_one(kitti):
    run(kitti, num_shards=2, overwrite=True)
    assert run(kitti, num_shards=2, verify=True) is None
    shard = kitti / "out.record-00001-of-00002"
    data = bytearray(shard.read_bytes())
    data[200] ^= 1
    shard.write_bytes(data)
    with pytest.raises(UserError, match=r"00001-of-00002, record 0: .*--overwrite replaces it"):
        run(kitti, num_shards=2, verify=True)


def test_frames_that_came_or_went_are_told(kitti):
    image, label = (kitti / "training" / f for f in ("image_2/000003.png", "label_2/000003.txt"))
    saved = image.read_bytes()
    image.unlink()
    label.unlink()
    with pytest.raises(UserError, match="made from other input: it holds 4 frames, not 3"):
        run(kitti)
    assert run(kitti, overwrite=True).num_examples == 3
    image.write_bytes(saved)
    label.write_text("")
    with pytest.raises(UserError, match="made from other input: frame 000003 is not the same"):
        run(kitti)


def test_verify_as_typed(kitti, root):
    (kitti / "label_map.txt").write_bytes((root / "label_map.txt").read_bytes())
    typed = "--kitti_root=. --output_path=out.record --label_map_path=label_map.txt --subset=all"
    command = [sys.executable, root / "create_kitti_tf_record.py", *typed.split()]
    change_a_pixel(kitti, keep_time=True)
    for flags, code, said in (
        (["--verify"], 1, "frame 000001 is not the same"),
        (["--verify", "--overwrite"], 2, "--verify excludes --overwrite and --dry_run"),
    ):
        done = subprocess.run(
            [*command, *flags], cwd=kitti, capture_output=True, text=True, check=False
        )
        assert done.returncode == code and said in done.stderr and "Traceback" not in done.stderr
