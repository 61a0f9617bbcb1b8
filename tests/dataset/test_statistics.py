"""Counts of sets, on two images and on all of KITTI's labels."""

import tarfile

import pytest

from efficientdet.dataset import statistics
from efficientdet.dataset.kitti import parse_labels
from efficientdet.dataset.statistics import Statistics
from efficientdet.dataset.tfrecord import Annotation


def test_two_images():
    counted = Statistics()
    car = Annotation((0, 0, 50, 41), 1, "Car", truncated=0.1)
    far = Annotation((0, 0, 30, 30), 0, "Car", is_crowd=True, occluded=3)
    region = Annotation((0, 0, 10, 20), 0, "DontCare", is_crowd=True)
    counted.add("000000", 100, 200, [car, far, region])
    counted.add("x", 50, 60, [])
    assert counted.counts() == {
        "num_examples": 2,
        "max_objects_per_image": 3,
        "class_counts": {"Car": 2, "DontCare": 1},
        "ignored_counts": {"Car": 1},
        "difficulty_counts": {"Car": {"easy": 1, "moderate": 0, "hard": 0, "beyond": 1}},
        "size_counts": {"Car": {"small": 1, "medium": 1, "large": 0}},
        "image_sizes": {"200x100": 1, "60x50": 1},
    }
    objects = counted.objects
    assert objects.types.tolist() == ["Car", "Car"] and objects.trained.tolist() == [True, False]
    assert objects.heights.tolist() == [41, 30] and objects.sizes.tolist() == ["medium", "small"]
    assert objects[objects.trained].boxes.tolist() == [[0, 0, 50, 41]]
    assert counted.num_objects == [2, 0] and counted.dont_care_share == [0.01, 0]


def test_nothing_is_counted_as_nothing():
    assert len(Statistics().objects) == 0
    assert Statistics().counts()["class_counts"] == {}


@pytest.mark.parametrize(
    ("area", "name"), [(0, "small"), (1023, "small"), (1024, "medium"), (9216, "large")]
)
def test_size_classes_are_coco_s(area, name):
    assert statistics.size_class(area) == name


def test_all_of_kitti(shared):
    counted = Statistics()
    with tarfile.open(shared / "kitti" / "label_2_all.tar.gz") as archive:
        for member in archive:
            if member.isfile():
                objects, _ = parse_labels(archive.extractfile(member).read(), member.name)
                counted.add(
                    member.name,
                    375,
                    1242,
                    [
                        Annotation(
                            (o.left, o.top, o.right, o.bottom),
                            1,
                            o.type,
                            o.is_dont_care,
                            truncated=o.truncated,
                            occluded=o.occluded,
                        )
                        for o in objects.values()
                    ],
                )
    counts = counted.counts()
    assert counts["num_examples"] == 7481 and counts["max_objects_per_image"] == 24
    assert counts["class_counts"] == {
        "Car": 28742,
        "Van": 2914,
        "Truck": 1094,
        "Pedestrian": 4487,
        "Person_sitting": 222,
        "Cyclist": 1627,
        "Tram": 511,
        "Misc": 973,
        "DontCare": 11295,
    }
    assert len(counted.objects) == 40570
    assert sum(sum(levels.values()) for levels in counts["difficulty_counts"].values()) == 40570
