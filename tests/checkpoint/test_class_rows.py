import pytest

from efficientdet.checkpoint.class_rows import match_classes
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UsageError

THREE = LabelMap((("Car", "Van"), ("Pedestrian", "Person_sitting"), ("Cyclist",)))


def test_equal_numbers_are_taken_as_one():
    assert match_classes(5, 5, None, None).rows == {i: i for i in range(5)}
    assert match_classes(5, 5, None, None).note is None


def test_other_numbers_start_at_random():
    matched = match_classes(3, 90, THREE, None)
    assert matched.rows == {}
    assert "re-initialised: 90 classes in the checkpoint, 3 here" in matched.note


def test_by_id_takes_the_first_rows():
    matched = match_classes(8, 90, LabelMap.kitti(), None, mode="by_id")
    assert matched.rows == {i: i for i in range(8)}
    assert "1..8 of the checkpoint's 90" in matched.note


def test_coco_rows_by_name():
    matched = match_classes(8, 90, LabelMap.kitti(), None, init_classes=True)
    names = LabelMap.kitti().names
    assert {names[row + 1]: stored + 1 for row, stored in matched.rows.items()} == {
        "Car": 3, "Truck": 8, "Pedestrian": 1, "Cyclist": 2, "Tram": 7,
    }  # fmt: skip
    assert "Cyclist from bicycle" in matched.note
    assert "at random: Van, Person_sitting, Misc" in matched.note


def test_merged_classes_take_the_first_known_type():
    matched = match_classes(3, 90, THREE, None, init_classes=True)
    assert matched.rows == {0: 2, 1: 0, 2: 1}


def test_own_runs_are_matched_by_name():
    other = LabelMap((("Cyclist",), ("Car",), ("Tram",)))
    matched = match_classes(3, 3, THREE, other)
    assert matched.rows == {0: 1, 2: 0}
    assert "at random: Pedestrian" in matched.note
    same = match_classes(3, 3, THREE, THREE)
    assert same.rows == {0: 0, 1: 1, 2: 2}
    assert same.note is None


def test_init_classes_needs_coco():
    with pytest.raises(UsageError, match="20 classes without names"):
        match_classes(3, 20, THREE, None, init_classes=True)
