import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from efficientdet.checkpoint.head_rows import AnchorShapes, HeadRows, level_scales
from efficientdet.config import Config

STOCK = AnchorShapes.of(Config())


def test_stock_anchors_are_octave_major():
    assert len(STOCK) == 9
    assert STOCK.shapes[0] == (0.0, 1.0)
    assert STOCK.shapes[4] == (1 / 3, 2.0)


@pytest.mark.parametrize(
    ("num_scales", "ratios", "expected"),
    [
        (3, [1.0, 2.0, 0.5], {i: i for i in range(9)}),
        (3, [[1.0, 1.0], [1.4, 0.7], [0.7, 1.4]], {i: i for i in range(9)}),
        (1, [0.5, 1.0], {0: 2, 1: 0}),
        (2, [1.0], {0: 0}),  # octave 1/2 is not among 0, 1/3, 2/3
        (1, [3.0], {}),
        (3, [1.0, 2.0, 0.5, (0.63, 1.58)], {0: 0, 1: 1, 2: 2, 4: 3, 5: 4, 6: 5, 8: 6, 9: 7, 10: 8}),
    ],
)
def test_anchors_are_matched_by_octave_and_ratio(num_scales, ratios, expected):
    config = Config().override({"num_scales": num_scales, "aspect_ratios": ratios})
    assert AnchorShapes.of(config).matches(STOCK) == expected


@pytest.mark.parametrize(
    ("num_scales", "ratios", "expected"),
    [
        (3, [1.0, 2.0, 0.5], {i: i for i in range(9)}),
        (3, [1.08, 2.16, 0.4], {i: i for i in range(9)}),  # the inspector's for KITTI
        (3, [0.4, 1.08, 2.16], {0: 2, 1: 0, 2: 1, 3: 5, 4: 3, 5: 4, 6: 8, 7: 6, 8: 7}),
        (5, [1.0], {0: 0, 1: 3, 2: 3, 3: 6, 4: 6}),  # octaves 0.2 and 0.4: 1/3
        (1, [3.0, 0.1, 1.3], {0: 1, 1: 2, 2: 0}),
    ],
)
def test_every_anchor_has_a_nearest_one(num_scales, ratios, expected):
    config = Config().override({"num_scales": num_scales, "aspect_ratios": ratios})
    assert AnchorShapes.of(config).nearest(STOCK) == expected
    assert AnchorShapes.of(config).nearest(AnchorShapes(())) == {}


@given(st.integers(1, 4), st.lists(st.floats(0.2, 5), min_size=1, max_size=4))
def test_a_shape_that_is_there_is_the_nearest(num_scales, ratios):
    config = Config().override({"num_scales": num_scales, "aspect_ratios": ratios})
    shapes = AnchorShapes.of(config)
    for here, there in shapes.nearest(shapes).items():
        assert shapes.shapes[here] == shapes.shapes[there]


def test_scales_are_those_of_the_levels():
    assert level_scales(Config()) == dict.fromkeys(range(3, 8), 4.0)
    config = Config().override({"anchor_scale": [1.0, 2.0], "min_level": 5, "max_level": 6})
    assert level_scales(config) == {5: 1.0, 6: 2.0}


def test_rows_go_where_they_belong():
    stored = np.arange(2 * 3 * 4).reshape(2, 12)  # 3 anchors of 4 classes
    initial = np.full((2, 4), -1)  # 2 anchors of 2 classes
    rows = HeadRows(2, 3, {1: 2}, {0: 3}, num_channels=2)
    carried = rows.carry(initial, stored)
    np.testing.assert_array_equal(carried, [[-1, -1, 11, -1], [-1, -1, 23, -1]])
    assert (initial == -1).all()
    assert not rows.complete
    assert not rows.empty


def test_all_rows_are_the_stored_array():
    stored = np.random.default_rng(0).normal(size=(1, 1, 5, 12))
    rows = HeadRows(3, 3, {i: i for i in range(3)}, {i: i for i in range(4)}, num_channels=4)
    np.testing.assert_array_equal(rows.carry(np.zeros_like(stored), stored), stored)
    assert rows.complete
    assert not dataclasses.replace(rows, exact=False).complete
