from dataclasses import replace

import numpy as np
import pytest

from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UsageError
from efficientdet.evaluation import bootstrap
from efficientdet.evaluation.evaluate import evaluate

METRICS = ("AP", "APm", "AP50_/Car", "kitti/Car_hard_R40", "kitti/Car_hard_R11")


def test_samples_are_evaluations_of_the_drawn_frames(random_frames):
    truths, detections = random_frames(7, num_frames=8, ties=False)
    label_map, n = LabelMap.kitti(), 6
    values = bootstrap.samples(truths, detections, label_map, METRICS, n=n, seed=3)
    generator = np.random.default_rng(3)
    for row in range(n):
        drawn = generator.integers(len(truths), size=len(truths))
        copies = [
            (replace(truths[i], source_id=str(k)), replace(detections[i], source_id=str(k)))
            for k, i in enumerate(sorted(drawn))
        ]
        result = evaluate([t for t, _ in copies], [d for _, d in copies], label_map).metrics
        for name in METRICS:
            assert values[name][row] == pytest.approx(result.get(name, np.nan), nan_ok=True)


def test_intervals_hold_the_value_and_shrink_with_frames(random_frames):
    label_map = LabelMap.kitti()
    widths = []
    for num_frames in (20, 200):
        truths, detections = random_frames(1, num_frames=num_frames)
        interval = bootstrap.intervals(truths, detections, label_map, ["AP_/Car"], n=60)["AP_/Car"]
        value = evaluate(truths, detections, label_map).metrics["AP_/Car"]
        assert interval.low < value < interval.high
        widths.append(interval.high - interval.low)
    assert widths[1] < widths[0]


def test_the_same_seed_draws_the_same_frames(random_frames):
    truths, detections = random_frames(2, num_frames=10)
    one, again = (
        bootstrap.samples(truths, detections, LabelMap.kitti(), ["AP50"], n=5, seed=1)["AP50"]
        for _ in range(2)
    )
    np.testing.assert_array_equal(one, again)


@pytest.mark.parametrize("name", ["ARmax100", "AP_/Bus", "kitti/Car_moderate"])
def test_a_metric_that_is_not_there_is_named(random_frames, name):
    truths, detections = random_frames(2)
    with pytest.raises(UsageError, match=name):
        bootstrap.intervals(truths, detections, LabelMap.kitti(), ["AP", name], n=2)
