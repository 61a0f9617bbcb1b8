"""Every form of a checkpoint is read, and each damage is one clear line."""

import shutil
import tarfile

import numpy as np
import pytest

from efficientdet.checkpoint.bundle import write_bundle
from efficientdet.checkpoint.stored import EMA, read_weights
from efficientdet.errors import UserError

_PREDICT = "class_net/class-predict"


def forms(coco, tmp_path, form):
    if form == "archive":
        with tarfile.open(tmp_path / "efficientdet-lite0.tar.gz", "w:gz") as tar:
            tar.add(coco, arcname="efficientdet-lite0")
        return tmp_path / "efficientdet-lite0.tar.gz"
    if form == "folder without state file":
        (tmp_path / "folder").mkdir()
        for file in coco.glob("model.*"):
            shutil.copy(file, tmp_path / "folder" / f"x{file.name}")
        return tmp_path / "folder"
    return {"prefix": coco / "model", "index": coco / "model.index", "folder": coco}[form]


@pytest.mark.parametrize(
    "form", ["prefix", "index", "folder", "folder without state file", "archive"]
)
def test_every_form_holds_the_same(coco, coco_arrays, tmp_path, form):
    stored = read_weights(str(forms(coco, tmp_path, form)))
    assert len(stored.arrays) == stored.num_averaged == len(coco_arrays) // 2
    np.testing.assert_array_equal(
        stored.arrays[f"{_PREDICT}/bias"], coco_arrays[f"{_PREDICT}/bias{EMA}"]
    )


@pytest.mark.parametrize("kind", ["half", "empty", "a web page", "absent", "without checkpoint"])
def test_damaged_archives(kind, coco, tmp_path):
    archive = forms(coco, tmp_path, "archive")
    content = archive.read_bytes()
    if kind == "without checkpoint":
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(__file__, arcname="readme")
    elif kind == "absent":
        archive.unlink()
    else:
        pieces = {"half": content[: len(content) // 2], "empty": b"", "a web page": b"<html>" * 99}
        archive.write_bytes(pieces[kind])
    with pytest.raises(UserError, match=archive.name) as error:
        read_weights(str(archive))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("foo.keras", b"PK\x03\x04" + b"0" * 99, "a zip file"),
        ("foo.tflite", b"\x1c\0\0\0TFL3" + b"0" * 99, "a TFLite model"),
        ("saved_model.pb", b"\x08\x01" + b"0" * 99, "a graph or SavedModel"),
    ],
)
def test_a_file_of_another_kind_is_called_by_its_name(tmp_path, name, content, kind):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        read_weights(str(tmp_path / name))
    assert f"{name}: {kind}" in str(error.value) and "\n" not in str(error.value)
    assert "not read here; expected a prefix" in str(error.value)
    assert "download" not in str(error.value)


def test_nothing_there_names_what_was_looked_for(tmp_path):
    for name in ("model", "efficientdet-d0.tar.gz"):
        with pytest.raises(UserError, match=rf"{name}: no such file or folder.*prefix.*folder"):
            read_weights(str(tmp_path / name))


def test_non_finite_weights_are_refused(tmp_path):
    write_bundle(tmp_path / "model", {"a/kernel": np.array([1, np.nan], "float32")})
    with pytest.raises(UserError, match="a/kernel holds NaN"):
        read_weights(str(tmp_path / "model"))


def test_newest_of_several_unless_nothing_tells(tmp_path):
    for name in ("model.ckpt-9", "model.ckpt-10"):
        write_bundle(tmp_path / name, {"step": np.float32(name[-1])})
    assert read_weights(str(tmp_path)).arrays["step"] == 0
    write_bundle(tmp_path / "other", {"step": np.float32(1)})
    with pytest.raises(UserError, match=r"several.*model\.ckpt-10, model\.ckpt-9, other"):
        read_weights(str(tmp_path))
