"""PyTorch's weight files (.pth), old and zip form, as plain arrays, without PyTorch.

A pickle is a program, and unpickling runs it. So nothing is unpickled: of its operations those
that build dicts, tuples and lists of names and numbers are carried out here, and a tensor is made
of a storage whose bytes are in the file. Every other operation or name is refused.
"""

import hashlib
import io
import math
import pickletools
import re
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from efficientdet.checkpoint.bundle import DamagedCheckpoint
from efficientdet.errors import UserError

SUFFIXES = (".pth", ".pt")
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_MAX_DIMENSIONS = 8
_DTYPES = {
    "torch FloatStorage": np.dtype("<f4"),
    "torch DoubleStorage": np.dtype("<f8"),
    "torch HalfStorage": np.dtype("<f2"),
    "torch LongStorage": np.dtype("<i8"),
}
_DICT, _TENSOR = "collections OrderedDict", "torch._utils _rebuild_tensor_v2"
_MARK = object()
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_LITERALS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_VALUES = {
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING",
}  # fmt: skip


class _NotWeights(ValueError):
    """The bytes are no file of weights, or a damaged one."""


@dataclass(frozen=True)
class Name:
    """What a pickle names: a class or a function, never looked up."""

    text: str


@dataclass(frozen=True)
class Storage:
    """Bytes of the file that tensors are cut out of: `count` values under `key`."""

    dtype: np.dtype
    key: str
    count: int


@dataclass(frozen=True)
class StoredTensor:
    """A part of a storage; offset and strides in values."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def view(self, values: np.ndarray) -> np.ndarray:
        """The tensor in its storage's `values`; read-only, no copy."""
        steps = [stride * values.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(
            values[self.offset :], self.shape, steps, writeable=False
        )


def read_torch(path: Path) -> dict[str, np.ndarray]:
    """Name -> array of the tensors that `torch.save(model.state_dict(), path)` wrote.

    Where the name ends in eight digits of a SHA-256, as published files' do, it is checked.

    Raises:
        DamagedCheckpoint: the digits are others.
        UserError: damaged, or it holds anything else than tensors by name.
    """
    content = path.read_bytes()
    _check_digest(path, content)
    read = _read_zip if content[:4] == b"PK\x03\x04" else _read_old
    try:
        return read(content)
    except (ValueError, KeyError, IndexError, EOFError, OverflowError, NotImplementedError,
            RuntimeError, zipfile.BadZipFile, zlib.error) as error:  # fmt: skip
        raise UserError(
            f"{path}: not readable as PyTorch weights ({' '.join(str(error).split())[:200]}); "
            "expected what torch.save(model.state_dict(), ...) writes, tensors by name"
        ) from None


def _check_digest(path: Path, content: bytes) -> None:
    match = re.search(r"-(?!20\d{6})([0-9a-f]{8})$", path.stem)  # 20240131 is a date
    digest = hashlib.sha256(content).hexdigest()
    if match and not digest.startswith(match[1]):
        raise DamagedCheckpoint(
            f"{path}: its name promises a SHA-256 of {match[1]}..., the {len(content)} bytes have "
            f"{digest[:8]}...: damaged or half downloaded, fetch it again (a file of your own: "
            "give it another name)"
        )


def _read_old(content: bytes) -> dict[str, np.ndarray]:
    """Five pickles (magic number, protocol, system, tensors, keys of storages), then the values."""
    file = io.BytesIO(content)
    if _load(file) != _MAGIC or _load(file) != _PROTOCOL:
        raise _NotWeights("it does not begin as a file of torch.save")
    system = _load(file)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise _NotWeights("not of a little-endian machine")
    tensors = _tensors(_load(file))
    known = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    keys = _load(file)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise _NotWeights("no list of storages")
    values = {}
    for key in keys:
        count = int.from_bytes(file.read(8), "little")
        if key not in known or known[key].count != count:
            raise _NotWeights(f"storage {key} has {count} values, which no tensor expects")
        size = count * known[key].dtype.itemsize
        values[key] = _values(known[key], file.read(size))
    return {name: tensor.view(values[tensor.storage.key]) for name, tensor in tensors.items()}


def _read_zip(content: bytes) -> dict[str, np.ndarray]:
    """A folder with data.pkl, the tensors, and data/KEY, the values; checked against their CRCs."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        # What is stored as it is cannot be larger than the file.
        if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
            raise _NotWeights("a compressed zip file")
        names = archive.namelist()
        pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise _NotWeights("a zip file without data.pkl")
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}byteorder" in names and archive.read(f"{folder}byteorder") != b"little":
            raise _NotWeights("not of a little-endian machine")
        tensors = _tensors(_load(io.BytesIO(archive.read(pickles[0]))))
        storages = {tensor.storage for tensor in tensors.values()}
        values = {s.key: _values(s, archive.read(f"{folder}data/{s.key}")) for s in storages}
    return {name: tensor.view(values[tensor.storage.key]) for name, tensor in tensors.items()}


def _values(storage: Storage, content: bytes) -> np.ndarray:
    if len(content) != storage.count * storage.dtype.itemsize:
        raise _NotWeights(f"storage {storage.key} ends early: half downloaded?")
    return np.frombuffer(content, storage.dtype)


def _tensors(loaded: Any) -> dict[str, StoredTensor]:
    if not isinstance(loaded, dict) or not loaded:
        raise _NotWeights("it holds no dict of tensors")
    for key, value in loaded.items():
        if not isinstance(key, str) or not isinstance(value, StoredTensor):
            raise _NotWeights(f"{str(key)[:80]!r} is no tensor")
    return loaded


def _load(file: BinaryIO) -> Any:
    """The value of the pickle that `file` stands at; it is left behind it."""
    machine = _Machine()
    for operation, argument, _ in pickletools.genops(file):
        machine.do(operation.name, argument)
    return machine.pop()


class _Machine:
    """Carries out the few operations that make dicts, lists, tuples and tensors."""

    def __init__(self):
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def pop(self) -> Any:
        return self.stack.pop()

    def do(self, operation: str, argument: Any) -> None:
        """One operation; raises _NotWeights if it is none of those."""
        push = self.stack.append
        if operation in _VALUES:
            push(argument)
        elif operation in _LITERALS:
            push(_LITERALS[operation])
        elif operation in _EMPTY:
            push(_EMPTY[operation]())
        elif operation in _TUPLES:
            push(self._last(_TUPLES[operation]))
        elif operation == "TUPLE":
            push(self._since_mark())
        elif operation == "MARK":
            push(_MARK)
        elif operation == "GLOBAL":
            push(Name(argument))
        elif operation in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif operation in ("BINGET", "LONG_BINGET"):
            push(self.memo[argument])
        elif operation == "BINPERSID":
            push(_storage(self.pop()))
        elif operation == "REDUCE":
            arguments, function = self.pop(), self.pop()
            push(_call(function, arguments))
        elif operation in ("SETITEM", "SETITEMS"):
            items = self._last(2) if operation == "SETITEM" else self._since_mark()
            self._dict().update(zip(map(_key, items[::2]), items[1::2], strict=True))
        elif operation in ("APPEND", "APPENDS"):
            items = self._last(1) if operation == "APPEND" else self._since_mark()
            self._list().extend(items)
        elif operation == "BUILD":
            self.pop()  # attributes of the dict: versions of modules
        elif operation not in ("PROTO", "STOP"):
            raise _NotWeights(f"operation {operation}")

    def _last(self, count: int) -> tuple:
        items = tuple(self.pop() for _ in range(count))
        return items[::-1]

    def _since_mark(self) -> tuple:
        items = []
        while (item := self.pop()) is not _MARK:
            items.append(item)
        return tuple(items[::-1])

    def _dict(self) -> dict:
        if not isinstance(self.stack[-1], dict):
            raise _NotWeights("items for what is no dict")
        return self.stack[-1]

    def _list(self) -> list:
        if not isinstance(self.stack[-1], list):
            raise _NotWeights("entries for what is no list")
        return self.stack[-1]


def _key(value: Any) -> str | int:
    if not isinstance(value, str | int):
        raise _NotWeights("a key that is no name")
    return value


def _call(function: Any, arguments: Any) -> Any:
    if function == Name(_DICT) and arguments == ():
        return {}
    if function == Name(_TENSOR) and isinstance(arguments, tuple) and len(arguments) >= 4:
        return _tensor(*arguments[:4])
    text = function.text if isinstance(function, Name) else type(function).__name__
    raise _NotWeights(f"it would call {text[:80]}")


def _storage(identity: Any) -> Storage:
    if not isinstance(identity, tuple) or len(identity) < 5 or identity[0] != "storage":
        raise _NotWeights("a reference that is no storage")
    kind, key, count = identity[1], identity[2], identity[4]
    if not isinstance(kind, Name) or kind.text not in _DTYPES:
        raise _NotWeights(f"values of type {str(getattr(kind, 'text', kind))[:80]}")
    if any(identity[5:]):
        raise _NotWeights("a storage that is a part of another")
    if not isinstance(key, str) or not _counts((count,)):
        raise _NotWeights("a storage without name or length")
    return Storage(_DTYPES[kind.text], key, count)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> StoredTensor:
    known = isinstance(storage, Storage) and _counts((offset,))
    if not (known and _counts(shape) and _counts(strides) and len(shape) == len(strides)):
        raise _NotWeights("a tensor without storage, offset, shape and strides")
    size = math.prod(shape)
    last = offset + sum((s - 1) * t for s, t in zip(shape, strides, strict=True))
    if offset > storage.count or size > storage.count or (size and last >= storage.count):
        raise _NotWeights(f"a tensor of {size} values in a storage of {storage.count}")
    return StoredTensor(storage, offset, shape, strides)


def _counts(values: Any) -> bool:
    """Whether `values` is a tuple of whole numbers from 0 on that an array can have."""
    return (
        isinstance(values, tuple)
        and len(values) <= _MAX_DIMENSIONS
        and all(type(value) is int and 0 <= value < 2**48 for value in values)
    )
