"""tf.train.Example as a class of protobuf's own: TensorFlow, which has it too, loads for seconds.

The fields and their numbers are those of tensorflow/core/example/{example,feature}.proto.
"""

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.message import Message

_ONE, _MANY = FieldDescriptorProto.LABEL_OPTIONAL, FieldDescriptorProto.LABEL_REPEATED
_PACKAGE = "tensorflow"


def _message(name: str, *fields: FieldDescriptorProto, **more: object) -> DescriptorProto:
    return DescriptorProto(name=name, field=fields, **more)


def _field(
    name: str, number: int, kind: str, label: int = _ONE, **more: object
) -> FieldDescriptorProto:
    """`kind` is a scalar such as `int64`, or the name of a message."""
    if kind[0].isupper():
        more |= {"type": FieldDescriptorProto.TYPE_MESSAGE, "type_name": f".{_PACKAGE}.{kind}"}
    else:
        more["type"] = FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")
    return FieldDescriptorProto(name=name, number=number, label=label, **more)


_KINDS = {"bytes_list": "BytesList", "float_list": "FloatList", "int64_list": "Int64List"}
_ENTRY = _message(  # what protobuf makes of map<string, Feature>
    "FeatureEntry",
    _field("key", 1, "string"),
    _field("value", 2, "Feature"),
    options={"map_entry": True},
)
_FILE = FileDescriptorProto(
    name="efficientdet/dataset/example.proto",
    package=_PACKAGE,
    syntax="proto3",  # numbers are packed, and a map's keys are UTF-8
    message_type=[
        _message("BytesList", _field("value", 1, "bytes", _MANY)),
        _message("FloatList", _field("value", 1, "float", _MANY)),
        _message("Int64List", _field("value", 1, "int64", _MANY)),
        _message(
            "Feature",
            *(
                _field(name, number, kind, oneof_index=0)
                for number, (name, kind) in enumerate(_KINDS.items(), start=1)
            ),
            oneof_decl=[{"name": "kind"}],
        ),
        _message(
            "Features",
            _field("feature", 1, "Features.FeatureEntry", _MANY),
            nested_type=[_ENTRY],
        ),
        _message("Example", _field("features", 1, "Features")),
    ],
)
_pool = descriptor_pool.DescriptorPool()  # of our own: TensorFlow's message has the same name
_pool.AddSerializedFile(_FILE.SerializeToString())
Example = message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"{_PACKAGE}.Example"))


def with_first(key: str, value: bytes, example: Message) -> tuple[bytes, ...]:
    """An example with one more feature, a list of one `value`, serialized as protobuf does it.

    Protobuf itself would copy an image three times, and joining the parts would once more.

    Args:
        key: sorts before all that `example` has.

    Returns:
        The bytes in parts; `value` itself is one of them.
    """
    features = example.features.SerializeToString(deterministic=True)
    feature = _nested(1, *_nested(1, value))
    entry = *_nested(1, key.encode()), *_nested(2, *feature)
    return _nested(1, *_nested(1, *entry), features)


def size_with(key: str, value: bytes, example: Message) -> int:
    """Bytes of `example` with one more feature, as in `with_first`.

    Protobuf's `ByteSize` takes as long as writing all of it.
    """
    feature = _nested_size(_nested_size(len(value)))
    entry = _nested_size(len(key.encode())) + _nested_size(feature)
    return _nested_size(_nested_size(entry) + example.features.ByteSize())


def _nested_size(length: int) -> int:
    return 1 + max(1, -(-length.bit_length() // 7)) + length  # tag, length in digits of 7 bits


def _nested(number: int, *parts: bytes) -> tuple[bytes, ...]:
    """Field `number` of a message, of bytes that come in parts: tag, length, and the parts."""
    length, digits = sum(map(len, parts)), []
    while length > 127:
        digits.append(length & 127 | 128)
        length >>= 7
    return bytes([number << 3 | 2, *digits, length]), *parts
