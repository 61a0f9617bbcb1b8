from efficientdet.dataset.label_map import LabelMap
from efficientdet.evaluation import kitti
from efficientdet.evaluation.frames import FrameTruth
from efficientdet.evaluation.self_check import self_check


def truths_of(make_object, num_cars):
    boxes = [(150 * i, 0, 150 * i + 100, 50) for i in range(num_cars)]
    return [FrameTruth("000000", 0, 0, [make_object(box=box) for box in boxes])]


def test_passes_on_ground_truth(make_object, label_map):
    checks = self_check(truths_of(make_object, 50), label_map)
    assert [check.name for check in checks] == ["COCO AP"] + [
        f"R40 Car {difficulty.name}" for difficulty in kitti.DIFFICULTIES
    ]
    assert all(check.passed and check.expected == 1 for check in checks)


def test_small_cells_expect_less(make_object, label_map):
    checks = self_check(truths_of(make_object, 11), label_map)
    assert [check.expected for check in checks] == [1.0, 0.25, 0.25, 0.25]
    assert all(check.passed for check in checks)


def test_fails_where_the_metric_is_broken(make_object, label_map, monkeypatch):
    monkeypatch.setitem(kitti.MIN_OVERLAP, "Car", 1.0)  # no overlap exceeds 1
    checks = self_check(truths_of(make_object, 50), label_map)
    assert [check.passed for check in checks] == [True, False, False, False]


def test_passes_on_real_labels(shared):
    from efficientdet.evaluation.folders import read_label_folder

    truths = read_label_folder(shared / "kitti/png/training/label_2")
    assert all(check.passed for check in self_check(truths, LabelMap.kitti()))
