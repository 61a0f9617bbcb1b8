"""Labels lie beside their boxes, off each other and off small objects."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientdet.dataset.boxes import intersection
from efficientdet.visualize import tags

IMAGE = (600, 200)


def place(boxes, avoid=(), size=(40, 12), image=IMAGE) -> np.ndarray:
    boxes = np.array(boxes, float).reshape(-1, 4)
    avoid = np.concatenate([boxes, np.array(avoid, float).reshape(-1, 4)])
    return tags.place(boxes, np.array([size] * len(boxes)).reshape(-1, 2), image, avoid)


def test_a_lone_label_stands_above_its_box_or_below():
    assert place([[100, 50, 150, 90]]).tolist() == [[100, 38, 140, 50]]
    assert place([[100, 2, 150, 90]]).tolist() == [[100, 90, 140, 102]]
    assert place(np.zeros((0, 4))).shape == (0, 4)


def test_a_label_stays_in_the_picture_where_its_box_fills_it():
    left, top, right, bottom = place([[0, 0, *IMAGE]])[0]
    assert 0 <= left < right <= IMAGE[0] and 0 <= top < bottom <= IMAGE[1]
    assert np.isfinite(place([[0, 0, 5, 5]], image=(8, 8))).all()  # larger than the image


def test_six_cars_in_a_row_have_six_labels_to_read():
    boxes = [[200 + 12 * i, 100, 222 + 12 * i, 115] for i in range(6)]
    placed = place(boxes)
    shared = intersection(placed, placed)
    np.fill_diagonal(shared, 0)
    assert shared.max() == 0
    assert intersection(placed, np.array(boxes, float)).max() == 0


def test_a_small_object_above_is_not_hidden():
    (placed,) = place([[100, 50, 150, 90]], avoid=[[105, 40, 115, 48]])
    assert intersection(placed[None], np.array([[105, 40, 115, 48]], float)).max() == 0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(*[st.integers(-20, 620)] * 4), max_size=8))
def test_any_boxes_have_labels_inside_the_image(corners):
    placed = place([[min(a, c), min(b, d), max(a, c), max(b, d)] for a, b, c, d in corners])
    assert len(placed) == len(corners)
    assert (placed[:, :2] >= 0).all() and (placed[:, 2:] <= IMAGE).all()
