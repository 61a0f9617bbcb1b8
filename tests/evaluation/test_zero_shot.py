import io

import pytest
from rich.console import Console

from efficientdet.dataset.coco_classes import read_class_map
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UserError
from efficientdet.evaluation.evaluate import evaluate
from efficientdet.evaluation.frames import FrameTruth
from efficientdet.evaluation.zero_shot import to_kitti, without_map

PERSON, BICYCLE, CAR, BUS, TRUCK = 1, 2, 3, 6, 8
BIKE, RIDER = (100, 50, 200, 120), (120, 0, 170, 110)


@pytest.fixture
def entries(root):
    return read_class_map(root / "configs/coco_to_kitti.yaml")


def test_the_map_finds_what_plain_ids_do_not(entries, make_object, make_detections):
    label_map = LabelMap.kitti()
    objects = [make_object("Car"), make_object("Pedestrian", (300, 0, 340, 90))]
    truths = [FrameTruth("000000", 0, 0, objects)]
    rows = [((0, 0, 100, 50), 0.9, CAR), ((300, 0, 340, 90), 0.8, PERSON)]
    found = [make_detections(*rows)]
    mapped = to_kitti(found, entries, label_map)
    assert evaluate(truths, mapped.detections, mapped.label_map).metrics["AP"] == pytest.approx(1)
    assert evaluate(truths, without_map(found, label_map), label_map).metrics["AP"] == 0


def test_counts_and_what_is_left_out(entries, make_detections):
    box = (0, 0, 100, 50)
    found = make_detections((box, 0.9, CAR), (box, 0.9, BUS), (box, 0.8, TRUCK), (box, 0.7, CAR))
    mapped = to_kitti([found], entries, LabelMap((("Car", "Van"), ("Misc",), ("Pedestrian",))))
    assert mapped.label_map.types == (("Car", "Van"), ("Pedestrian",))
    assert mapped.left_out == ["Misc"]
    assert mapped.detections[0].classes.tolist() == [1, 1]
    assert (mapped.num_found[CAR], mapped.num_kept[CAR]) == (2, 2)
    assert (mapped.num_found[TRUCK], mapped.num_kept[TRUCK]) == (1, 0)
    console = Console(width=100, file=io.StringIO())
    console.print(mapped.table())
    assert "left out of the means: Misc" in console.file.getvalue()
    assert "Truck: not in the label map" in console.file.getvalue()


def test_a_bicycle_and_its_rider_become_a_cyclist(entries, make_detections):
    found = make_detections((RIDER, 0.8, PERSON), (BIKE, 0.6, BICYCLE))
    (frame,) = to_kitti([found], entries, LabelMap.kitti()).detections
    assert frame.boxes.tolist() == [[100, 0, 200, 120]]
    assert frame.scores.tolist() == [0.6]


@pytest.mark.parametrize(
    ("person", "bicycle_score", "why"),
    [
        ((400, 0, 450, 110), 0.6, "the person stands elsewhere"),
        ((180, 0, 230, 110), 0.6, "the person covers a fifth of the bicycle"),
        (RIDER, 0.3, "the bicycle is too faint"),
    ],
)
def test_a_bicycle_without_a_rider_is_dropped(entries, make_detections, person, bicycle_score, why):
    found = make_detections((person, 0.8, PERSON), (BIKE, bicycle_score, BICYCLE))
    mapped = to_kitti([found], entries, LabelMap((("Pedestrian",), ("Cyclist",))))
    assert mapped.detections[0].classes.tolist() == [1], why
    assert mapped.num_kept[BICYCLE] == 0


def test_one_rider_rides_one_bicycle(entries, make_detections):
    """The better bicycle takes the better of its two riders; the other bicycle the one left."""
    other = (122, 0, 172, 110)
    found = make_detections(
        (BIKE, 0.5, BICYCLE), (other, 0.4, PERSON), (BIKE, 0.7, BICYCLE), (RIDER, 0.9, PERSON)
    )
    label_map = LabelMap((("Pedestrian",), ("Cyclist",)))
    (frame,) = to_kitti([found], entries, label_map).detections
    assert sorted(zip(frame.classes.tolist(), frame.scores.tolist(), strict=True)) == [
        (2, 0.4),
        (2, 0.7),
    ]


def test_no_counterpart_at_all_is_an_error(entries):
    with pytest.raises(UserError, match="counterpart"):
        to_kitti([], entries, LabelMap((("Misc",),)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes:\n  - {id: 3, coco: car, kitti: Auto}\n", "unknown class 'Auto'"),
        ("classes:\n  - {id: 3, coco: car}\n", "expected `classes:`"),
        ("- car\n", "expected `classes:`"),
        ("{", "not readable as YAML"),
        ("classes: {id: 3, coco: car, kitti: Car}\n", "expected `classes:`"),
        ("classes: [5]", "entry 1: expected `classes:`"),
        ("classes: [{id: .inf, coco: car, kitti: Car}]", "'inf' is no id of a COCO class"),
        ("classes: [{id: .nan, coco: car, kitti: Car}]", "'nan' is no id of a COCO class"),
        ("classes: [{id: true, coco: car, kitti: Car}]", "'True' is no id of a COCO class"),
        ("classes: [{id: 91, coco: car, kitti: Car}]", "'91' is no id of a COCO class"),
        (f"classes: [{{id: {'9' * 5000}, coco: car, kitti: Car}}]", "not readable as YAML"),
        ("classes: [{id: 3, coco: car, kitti: Car, rider: [1]}]", "is no id of a COCO class"),
        ("classes: [{id: 3, coco: car, kitti: [Car]}]", "unknown class"),
        ("classes: &a [*a]", "not readable as YAML"),
        ("classes: " + "[" * 600, "not readable as YAML"),
        ("classes: 2024-13-45", "expected `classes:`"),
        (
            "classes: [{id: 3, coco: car, kitti: Car}, {id: 3, coco: bus, kitti: Car}]",
            "COCO id 3 stands 2 times",
        ),
    ],
)
def test_a_bad_class_map_is_named(tmp_path, text, message):
    path = tmp_path / "map.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        read_class_map(path)
    assert str(path) in str(error.value)


def test_a_missing_class_map_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere.yaml"):
        read_class_map(tmp_path / "nowhere.yaml")
