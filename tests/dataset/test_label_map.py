"""Label maps in all their forms."""

import contextlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientdet.dataset.kitti import BENCHMARK
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UserError
from efficientdet.evaluation.kitti import MIN_OVERLAP

FORMS = {
    "id_name.txt": "# classes\n1: Car\n2: Pedestrian # on foot\n\n3: Cyclist\n",
    "name_id.txt": "Car 1\npedestrian 2\nCyclist 3\n",
    "spaces.txt": "1 Car\n2 Pedestrian\n3 Cyclist\n",
    "names.txt": "Car\nPedestrian\nCyclist",
    "disorder.txt": "3: Cyclist\n1: Car\n2: Pedestrian\n",
    "tf.pbtxt": "item {\n  id: 1\n  name: 'Car'\n}\nitem { name: \"pedestrian\" id: 2 }\n"
    "item {\n  id: 3\n  name: 'Cyclist'\n  display_name: 'bike'\n}\n",
    "ids.yaml": "1: Car\n2: Pedestrian\n3: Cyclist\n",
    "names.yaml": "Car: 1\nPedestrian: 2\nCyclist: 3\n",
    "list.yaml": "- Car\n- Pedestrian\n- Cyclist\n",
    "nested.yml": "label_map:\n  1: Car\n  2: Pedestrian\n  3: Cyclist\n",
}


@pytest.mark.parametrize("name", FORMS)
def test_all_forms_mean_the_same(tmp_path, name):
    (tmp_path / name).write_text(FORMS[name])
    label_map = LabelMap.read(tmp_path / name)
    assert label_map.names == {1: "Car", 2: "Pedestrian", 3: "Cyclist"}
    assert label_map.num_classes == 3


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "1: Car, Van\n2: Pedestrian, Person_sitting"),
        ("a.txt", "Car, Van 1\nPedestrian,Person_sitting 2"),
        ("a.txt", "Car, Van\nPedestrian, Person_sitting"),
        ("a.yaml", "1: [Car, Van]\n2: [Pedestrian, Person_sitting]"),
        (
            "a.pbtxt",
            "item { id: 1 name: 'Car, Van' } item { id: 2 name: 'Pedestrian, Person_sitting' }",
        ),
    ],
)
def test_merged_classes_share_an_id(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    label_map = LabelMap.read(tmp_path / name)
    assert label_map.names == {1: "Car", 2: "Pedestrian"}
    assert [label_map.id_of(x) for x in ("Van", "person_SITTING", "Tram", "DontCare")] == [
        1,
        2,
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("name", "text", "where", "what"),
    [
        ("a.txt", "1: Car\n1: Van", 2, "id 1 stands twice"),
        ("a.txt", "1: Car\n\n3: Van", 3, "2 is missing"),
        ("a.txt", "0: Car\n1: Van", 1, "ids start at 1"),
        ("a.txt", "1: 버스\n2: Bus\n3: bus", 3, "bus has id 2 already"),
        ("a.txt", "1: Car\n2: DontCare", 2, "no class"),
        ("a.txt", "1: Car\n2: car", 2, "Car has id 1 already"),
        ("a.txt", "1: Car\nVan", 2, "use one form"),
        ("a.txt", "1:", 1, "without a class name"),
        ("a.txt", "# nothing", None, "no class"),
        ("a.pbtxt", "item { id: 1 name: 'Car' }\nitem { name: 'Van' }", 2, "expected `item"),
        ("a.yaml", "1: Car\n1: Van", 2, "id 1 stands twice"),
        ("a.yaml", "Car: one", 1, "is no id"),
        ("a.txt", "９: Car", 1, "'９: Car' is no name of a class"),
        ("a.txt", f"{'9' * 5000}: Car", 1, "(5005 letters) is no name of a class"),
        ("a.txt", f"Car {'9' * 5000}", 1, "(5004 letters)"),
        ("a.txt", "x" + " :" * 50_000 + "y", 1, "is no name of a class"),
        ("a.txt", "Car" * 300_000, None, "over 262144 bytes"),
        ("a.txt", "Car\0", 1, "'Car\\x00' is no name of a class"),
        ("a.pbtxt", f"item {{ id: {'9' * 5000} name: 'Car' }}", 1, "is no id"),
        ("a.pbtxt", "item { " + "a" * 200_000 + " }", 1, "expected `item"),
        ("a.pbtxt", "item { " + "a " * 100_000 + " }", 1, "expected `item"),
        ("a.yaml", f"{'9' * 900}: Car", 1, "is no id"),
        ("a.yaml", "1.5: Car", 1, "is no id"),
        ("a.yaml", ".inf: Car", 1, "is no id"),
        ("a.yaml", "1: &a [*a]", 1, "expected a name or a list of names"),
        ("a.yaml", "&a 1: {2: *a}", 1, "expected a name or a list of names"),
        ("a.yaml", "[" * 600, None, "not readable as YAML"),
        ("a.yaml", f"%YAML 1.{'1' * 5000}\n--- 1", None, "not readable as YAML"),
        ("a.yaml", "{", None, "not readable as YAML"),
        ("a.yaml", "1: Car\n2: {Van: 3}", 2, "expected a name or a list of names"),
        ("a.yaml", "Car", None, "expected `id: name`"),
    ],
)
def test_what_is_wrong_names_the_line(tmp_path, name, text, where, what):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UserError) as error:
        LabelMap.read(path)
    assert str(error.value).startswith(f"{path}:{where}: " if where else f"{path}: ")
    assert what in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 800


PIECES = ["Car", "van", "1", "2", "0", ":", ",", "\n", " ", "item {", "}", "id:", "name:", "'", '"']
PIECES += ["#", "-", "[", "]", "{", "? ", "&a ", "*a", "=", "\t", "é"]


@settings(deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=12), st.sampled_from(["txt", "yaml"]))
def test_any_text_is_a_label_map_or_an_error_of_its_user(pieces, suffix):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{suffix}"
        path.write_text("".join(pieces), encoding="utf-8")
        try:
            assert LabelMap.read(path).num_classes >= 1
        except UserError as error:
            assert str(error).startswith(str(path))


@settings(derandomize=True, max_examples=50, deadline=None)
@given(
    st.binary(max_size=40) | st.text(max_size=40).map(str.encode),
    st.sampled_from([".txt", ".yaml"]),
)
def test_any_bytes_are_a_label_map_or_an_error_of_its_user(data, suffix):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        path.write_bytes(data)
        with contextlib.suppress(UserError):
            LabelMap.read(path)


@pytest.mark.parametrize("values", [5, [], {"1": 5}, {"1": [1]}, {"x": ["Car"]}, {"1": None}, {}])
def test_plain_values_that_are_none(values):
    with pytest.raises(UserError, match="label map: "):
        LabelMap.from_dict(values)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(UserError, match="No such file or directory; expected a label map"):
        LabelMap.read(tmp_path / "x.txt")


def test_the_repository_has_kitti_s_eight_classes(root):
    assert LabelMap.read(root / "label_map.txt") == LabelMap.kitti()
    assert LabelMap.kitti().num_classes == 8


def test_there_and_back(tmp_path):
    label_map = LabelMap((("Car", "Van"), ("Cyclist",)))
    label_map.write(tmp_path / "x.txt")
    assert LabelMap.read(tmp_path / "x.txt") == label_map
    assert LabelMap.from_dict(label_map.to_dict()) == label_map
    assert LabelMap.from_dict({1: "Car, Van", 2: "Cyclist"}) == label_map


@pytest.mark.parametrize("text", ["1: Van, Car\n2: Tram, Truck", "1: Car, Van\n2: Tram, Truck"])
def test_a_merged_id_is_named_by_its_benchmark_class(tmp_path, text):
    (tmp_path / "a.txt").write_text(text)
    label_map = LabelMap.read(tmp_path / "a.txt")
    assert label_map.names == {1: "Car", 2: "Tram"}
    assert label_map == LabelMap((("Car", "Van"), ("Tram", "Truck")))
    sitting = LabelMap.from_dict({"1": ["Person_sitting", "Pedestrian"], "2": ["Misc", "Cyclist"]})
    assert sitting.names == {1: "Pedestrian", 2: "Cyclist"}
    assert tuple(MIN_OVERLAP) == BENCHMARK
