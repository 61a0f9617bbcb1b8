"""One serialized example as plain Python values, with all that is wrong with its schema."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from efficientdet import tensorflow_device  # noqa: F401 (no GPU for it beside JAX)

_KINDS = {
    "bytes": ("bytes_list",),
    "float": ("float_list",),
    "int64": ("int64_list",),
    "number": ("float_list", "int64_list"),
}
_BOX = ("xmin", "ymin", "xmax", "ymax")
_BOX_KEYS = tuple(f"image/object/bbox/{side}" for side in _BOX)
_LABEL_KEY = "image/object/class/label"

# Key -> type of what the TF Object Detection API's and AutoML's scripts write, too.
_SCALARS = {
    "image/encoded": "bytes",
    "image/source_id": "bytes",
    "image/height": "int64",
    "image/width": "int64",
    "image/format": "bytes",
    "image/key/sha256": "bytes",
}
_LISTS = dict.fromkeys(_BOX_KEYS, "float") | {
    _LABEL_KEY: "int64",
    "image/object/class/text": "bytes",
    "image/object/is_crowd": "int64",
    "image/object/truncated": "number",  # PASCAL's script writes 0 and 1
    "image/object/occluded": "int64",
    "image/object/kitti/label_line": "bytes",
}
_REQUIRED = ("image/encoded", "image/source_id")


@dataclass
class Record:
    """An example; what it lacks has the default, what is wrong stands in `problems`.

    Attributes:
        encoded: image bytes.
        height, width: as stated, 0 where the record does not say.
        boxes: float64 [N, 4], xmin, ymin, xmax, ymax as stored.
        labels, is_crowd, occluded: int [N]; truncated: float [N].
        texts, lines: N strings.
        problems: texts about the schema; such a record's N may be cut to the shortest list.
    """

    encoded: bytes = b""
    source_id: str = ""
    height: int = 0
    width: int = 0
    format: str = ""
    sha256: str = ""
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    labels: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    is_crowd: list[int] = field(default_factory=list)
    truncated: list[float] = field(default_factory=list)
    occluded: list[int] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @classmethod
    def parse(cls, serialized: bytes) -> "Record":
        """Reads a serialized tf.train.Example; never raises on bad content."""
        try:
            features = tf.train.Example.FromString(serialized).features.feature
        except DecodeError:
            return cls(problems=["not a tf.train.Example"])
        problems = list(_schema_problems(features))
        scalar = {key: _scalar(features, key, kind) for key, kind in _SCALARS.items()}
        lists = {key: _values(features, key, kind) for key, kind in _LISTS.items()}
        count = min(len(lists[key]) for key in (*_BOX_KEYS, _LABEL_KEY))

        def column(key: str, default: object) -> list:
            values = lists[f"image/object/{key}"]
            return values[:count] if len(values) >= count else [default] * count

        return cls(
            encoded=scalar["image/encoded"] or b"",
            source_id=_text(scalar["image/source_id"]),
            height=scalar["image/height"] or 0,
            width=scalar["image/width"] or 0,
            format=_text(scalar["image/format"]),
            sha256=_text(scalar["image/key/sha256"]),
            boxes=np.array([lists[key][:count] for key in _BOX_KEYS], np.float64).T,
            labels=column("class/label", 0),
            texts=[_text(text) for text in column("class/text", b"")],
            is_crowd=column("is_crowd", 0),
            truncated=column("truncated", 0.0),
            occluded=column("occluded", 0),
            lines=[_text(line) for line in column("kitti/label_line", b"")],
            problems=problems,
        )


def _schema_problems(features: dict) -> Iterator[str]:
    for key in _REQUIRED:
        if key not in features:
            yield f"{key} is missing"
    for key, kind in (_SCALARS | _LISTS).items():
        found = features[key].WhichOneof("kind") if key in features else None
        if found and found not in _KINDS[kind]:
            yield f"{key} is a {found}, expected {_KINDS[kind][0]}"
    counts = {key: len(_values(features, key, kind)) for key, kind in _LISTS.items()}
    counts = {key: n for key, n in counts.items() if n or key in (*_BOX_KEYS, _LABEL_KEY)}
    if len(set(counts.values())) > 1:
        lengths = ", ".join(f"{n} {key}" for key, n in counts.items())
        yield f"lists that should be of one length are not: {lengths}"


def _values(features: dict, key: str, kind: str) -> list:
    found = features[key].WhichOneof("kind") if key in features else None
    return list(getattr(features[key], found).value) if found in _KINDS[kind] else []


def _scalar(features: dict, key: str, kind: str) -> object:
    return next(iter(_values(features, key, kind)), None)


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", errors="replace")
