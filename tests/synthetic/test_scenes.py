"""The made-up frames: labels tell the truth about the pixels, and about each other."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from efficientdet.dataset.kitti import read_labels
from efficientdet.synthetic import scenes as synthetic
from efficientdet.synthetic import street

FRAMES = 12


@pytest.fixture(scope="module")
def frames():
    return [synthetic.render_frame(0, frame) for frame in range(FRAMES)]


@pytest.fixture(scope="module")
def objects(frames):
    return [item for _, labels in frames for item in labels if not item.is_dont_care]


def edges(item) -> np.ndarray:
    return np.array([item.left, item.top, item.right, item.bottom])


def iou(first: np.ndarray, second: np.ndarray) -> float:
    shared = np.concatenate([np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])])
    area = synthetic._area
    return area(shared) / (area(first) + area(second) - area(shared))


def test_a_frame_depends_on_seed_and_number_alone(frames):
    image, labels = synthetic.render_frame(0, 3)
    assert image.tobytes() == frames[3][0].tobytes() and labels == frames[3][1]
    assert synthetic.render_frame(1, 3)[1] != labels
    assert image.size == (1242, 375)


def test_every_class_and_every_kind_of_label_occurs(frames, objects):
    assert {item.type for item in objects} == {"Car", "Pedestrian", "Cyclist"}
    assert {item.occluded for item in objects} >= {0, 1}
    assert any(item.truncated > 0.1 for item in objects)
    assert any(item.is_dont_care for _, labels in frames for item in labels)


def test_objects_are_mostly_not_tiny(objects):
    heights = np.array([item.bottom - item.top for item in objects])
    assert heights.min() >= 17 and np.median(heights) > 50


def test_boxes_lie_inside_and_flags_are_in_range(objects):
    for item in objects:
        assert 0 <= item.left < item.right <= 1241 and 0 <= item.top < item.bottom <= 374
        assert 0 <= item.truncated <= 0.9 and item.occluded in (0, 1, 2)
        assert -math.pi <= item.alpha <= math.pi and -math.pi <= item.rotation_y <= math.pi


def test_3d_fields_project_onto_the_box(objects):
    for item in objects:
        if item.truncated > 0:
            continue
        size = (item.height, item.width, item.length)
        figure = street.Figure([], size, item.x, item.z, item.rotation_y)
        unit = np.array(list(itertools.product((-0.5, 0.5), (-0.5, 0.5), (0, 1))))
        corners = unit * [item.length, item.width, item.height]
        pixels = figure.pixels(corners)
        cuboid = np.concatenate([pixels.min(0), pixels.max(0)])
        assert iou(cuboid, edges(item)) > 0.5, item.line
        assert item.alpha == pytest.approx(
            math.remainder(item.rotation_y - math.atan2(item.x, item.z), 2 * math.pi), abs=0.02
        )


@settings(max_examples=40, deadline=None)
@given(
    make=st.sampled_from([street.car, street.pedestrian, street.cyclist]),
    seed=st.integers(0, 1000),
    x=st.floats(-2, 2),
    z=st.floats(8, 40),
    heading=st.floats(-math.pi, math.pi),
)
def test_a_box_is_tight_around_the_pixels_of_its_figure(make, seed, x, z, heading):
    canvas = street.Canvas(Image.new("RGB", (street.IMAGE_WIDTH, street.IMAGE_HEIGHT)))
    box, pixels = canvas.draw(make(np.random.default_rng(seed), x, z, heading), 7)
    rows, columns = np.nonzero(np.asarray(canvas.owner) == 7)
    assert len(rows) == pixels > 0
    seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(box, seen, atol=2.5)


@pytest.mark.parametrize("aside, level", [(5.0, 0), (0.9, 1), (0.4, 2), (0.0, None)])
def test_occlusion_follows_from_what_is_hidden(aside, level):
    """A car far off, another one at `aside` in front of it."""
    rng = np.random.default_rng(2)
    far = street.car(rng, 0.0, 24.0, street.AHEAD)
    near = street.car(rng, aside, 16.0, street.AHEAD)
    canvas = street.Canvas(Image.new("RGB", (street.IMAGE_WIDTH, street.IMAGE_HEIGHT)))
    box, pixels = canvas.draw(far, 1)
    canvas.draw(near, 2)
    visible = np.count_nonzero(np.asarray(canvas.owner) == 1) / pixels
    label = synthetic._label(far, box, visible)
    assert (label.occluded if label else None) == level, visible


def test_a_car_at_the_border_is_truncated_by_what_is_outside():
    figure = street.car(np.random.default_rng(0), -6.0, 8.0, street.AHEAD)
    canvas = street.Canvas(Image.new("RGB", (street.IMAGE_WIDTH, street.IMAGE_HEIGHT)))
    box, _ = canvas.draw(figure, 1)
    label = synthetic._label(figure, box, 1.0)
    assert box[0] < 0 and label.left == 0
    outside = -box[0] / (box[2] - box[0])
    assert label.truncated == pytest.approx(outside, abs=0.01)


@given(st.lists(st.tuples(*[st.integers(0, 300)] * 4), max_size=12))
def test_merged_regions_cover_all_and_do_not_overlap(corners):
    boxes = [(min(a, c), min(b, d), max(a, c) + 1, max(b, d) + 1) for a, b, c, d in corners]
    regions = synthetic._merged(boxes)
    for left, top, right, bottom in boxes:
        assert any(
            r[0] <= left and r[1] <= top and r[2] >= right and r[3] >= bottom for r in regions
        )
    for first, other in itertools.combinations(regions, 2):
        assert not synthetic._overlap(first, other)


def test_the_set_is_a_kitti_folder(tmp_path, frames):
    synthetic.render_set(tmp_path, 7, seed=0)
    names = {
        subset: (tmp_path / "ImageSets" / f"{subset}.txt").read_text().split()
        for subset in ("train", "val")
    }
    assert names == {
        "train": ["900000", "900001", "900002", "900003", "900005", "900006"],
        "val": ["900004"],
    }
    for frame in range(7):
        path = tmp_path / "training" / "image_2" / f"{900_000 + frame}.png"
        image = Image.open(path)
        assert image.format == "PNG" and image.tobytes() == frames[frame][0].tobytes()
        label = tmp_path / "training" / "label_2" / f"{900_000 + frame}.txt"
        assert read_labels(label) == frames[frame][1]
    assert not list(tmp_path.rglob("*.tmp"))
