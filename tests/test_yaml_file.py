"""Whatever a YAML file holds, it is read, or refused in one line that says where."""

import os
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from efficientdet.errors import UsageError
from efficientdet.yaml_file import MAX_BYTES, compose_yaml, parse_yaml, read_yaml

LAUGHS = "\n".join(
    ["a0: &a0 [lol, lol]"]
    + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 20)]
)
MERGED = "\n".join(
    ["a0: &a0 {x: 1}"]
    + [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 9)]
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("# nothing", None),
        ("a: 2024-13-45", {"a": "2024-13-45"}),  # PyYAML raises ValueError
        ("a: 2024-01-02", {"a": "2024-01-02"}),
        ("a: =", {"a": "="}),
        ("a: !!str 12", {"a": "12"}),
        ("a: !!float 12", {"a": 12.0}),
        ("1: Car\n2: [Van, Truck]", {1: "Car", 2: ["Van", "Truck"]}),
        ("a: &x {b: 1}\nc: {<<: *x, d: [*x]}", {"a": {"b": 1}, "c": {"b": 1, "d": [{"b": 1}]}}),
        ("a: null\nb: yes\nc: 1.0e-4\nd: 0x10", {"a": None, "b": True, "c": 1e-4, "d": 16}),
    ],
)
def test_what_is_read(text: str, value: object) -> None:
    assert parse_yaml(text, "a.yaml") == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: 1\nb: [2", "a.yaml: not readable as YAML: while parsing"),
        ("a: !!python/object:os.system {}", "could not determine a constructor"),
        ("a: !!timestamp x", "could not determine a constructor"),
        ("a: !!binary x", "could not determine a constructor"),
        ("!!set {a}", "could not determine a constructor"),
        ("a: !!float x", "not what its tag says: could not convert"),
        ("a: !!int ''", "not what its tag says"),
        ("a: !!bool x", "not what its tag says: 'x'"),
        ("b: 1\na: &a [*a]", "a.yaml:2: not readable as YAML: nested more than 50 deep"),
        ("a: &a {b: *a}", "nested more than 50 deep"),
        ("a: &a {<<: *a}", "nested more than 50 deep"),
        ("[" * 100_000, "nested more than 50 deep"),
        ("- " * 60 + "x", "nested more than 50 deep"),
        (LAUGHS, "more than 100000 values"),
        (MERGED, "more than 100000 values"),
        ("a: " + "9" * 5000, "a.yaml:1: not readable as YAML: a value of 5000 letters"),
        ("a: 0x" + "f" * 5000, "a value of 5002 letters"),  # what Python cannot print
        ("a: 1" + ":1" * 5000, "a value of 10001 letters"),
        ("a: " + "x" * 10_001, "a value of 10001 letters"),
        ("%YAML 1." + "9" * 5000 + "\n---\na: 1", "Exceeds the limit"),
        ("a: 1\nb: 2\na: 3", "a.yaml:3: not readable as YAML: the key 'a' stands twice"),
        ("x: {a: 1, a: 3}", "a.yaml:1: not readable as YAML: the key 'a' stands twice"),
        ("? [a]\n: 1", "found unhashable key"),
        ("a: \0", "special characters are not allowed"),
        ("a: 1\n---\nb: 2", "expected a single document"),
        ("<<: 3", "expected a mapping or list of mappings for merging"),
    ],
)
def test_what_is_refused(text: str, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_yaml(text, "a.yaml")
    line = str(caught.value)
    assert line.startswith("a.yaml:") and why in line and "\n" not in line and len(line) < 600


# Pieces of which YAML's traps are made.
PIECES = st.sampled_from(
    [
        "a", "b: ", "- ", "? ", ": ", "\n", "  ", "[", "]", "{", "}", ",", "&x ", "*x", "<<: ",
        "!!", "!!int ", "!!float ", "!!bool ", "!!null ", "!!seq ", "!!map ", "!!str ",
        "!!python/name:a ", "2024-13-45", ".inf", "0x", "0b2", "1_", "1:2", "1e999",
        "'", '"', "\\x", "|", ">", "%YAML ", "=", "---\n", "...\n", "\t", "\0", "\ufeff",
        "\ud800", "#", "é", "~", "-", "+", "!",
    ]
)  # fmt: skip


@settings(deadline=None, derandomize=True, max_examples=300)
@given(st.lists(PIECES, max_size=14).map("".join) | st.text(max_size=30))
@example("")
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse_yaml(text, "a.yaml")
    except UsageError as error:
        assert str(error).startswith("a.yaml") and "\n" not in str(error)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "설정.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\n")
    assert read_yaml(path, "a file") == {"a": 1}


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "large.yaml").write_bytes(b"#" * (MAX_BYTES + 1))
    (tmp_path / "utf16.yaml").write_bytes("a: 1".encode("utf-16"))
    (tmp_path / "round.yaml").symlink_to("round.yaml")
    for name, why in {
        "pipe.yaml": "this is no ordinary file; expected a file of x",
        "folder.yaml": "this is a folder; expected a file of x",
        "large.yaml": f"over {MAX_BYTES} bytes; expected a file of x",
        "utf16.yaml": "not readable as YAML: not UTF-8",
        "round.yaml": "expected a file of x",
        "absent.yaml": "No such file or directory; expected a file of x",
        "x" * 300: "File name too long; expected a file of x",
        "nul\0.yaml": "expected a file of x",
    }.items():
        with pytest.raises(UsageError) as caught:
            read_yaml(tmp_path / name, "a file of x")
        assert why in str(caught.value) and "\n" not in str(caught.value)


def test_nodes_keep_their_lines() -> None:
    node = compose_yaml("# names\n1: Car\n2: Van\n", "a.yaml")
    assert isinstance(node, yaml.MappingNode)
    assert [key.start_mark.line for key, _ in node.value] == [1, 2]
    assert compose_yaml("", "a.yaml") is None
