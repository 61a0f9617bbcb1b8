"""Boxes and sheets, pixel by pixel."""

import numpy as np
import pytest
from PIL import Image

from efficientdet.errors import UsageError
from efficientdet.visualize import drawing

BLACK = np.zeros((60, 100, 3), np.uint8)
RED = (255, 0, 0)


def test_box_edges_lie_on_the_given_pixels_and_the_input_is_untouched():
    out = drawing.draw_boxes(BLACK, [[10, 20, 50, 40]], colours=RED, line_width=1)
    rows, columns = np.nonzero(out[..., 0])
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == (10, 20, 50, 40)
    assert out[30, 30].tolist() == [0, 0, 0]
    assert BLACK.sum() == 0
    assert out.dtype == np.uint8 and out.shape == BLACK.shape


def test_no_boxes_no_change():
    np.testing.assert_array_equal(drawing.draw_boxes(BLACK, np.zeros((0, 4))), BLACK)


def test_boxes_outside_inverted_and_flat_do_no_harm():
    boxes = [[-50, -50, 1e9, 500], [30, 30, 30, 30], [60, 10, 20, 40], [-9, -9, -2, -2]]
    for dashed in (False, True):
        out = drawing.draw_boxes(BLACK, boxes, list("abcd"), dashed=dashed)
        assert out.shape == BLACK.shape


def test_dashes_leave_gaps():
    full, dashed = (
        drawing.draw_boxes(BLACK, [[5, 5, 95, 55]], colours=RED, line_width=1, dashed=dashed)
        for dashed in (False, True)
    )
    assert 0 < np.count_nonzero(dashed) < 0.75 * np.count_nonzero(full)


def test_each_box_has_its_own_colour_and_its_label_a_tag():
    colours = [drawing.class_colour(1), drawing.class_colour(2)]
    boxes = [[2, 30, 40, 50], [60, 30, 90, 50]]
    plain = drawing.draw_boxes(BLACK, boxes, colours=colours)
    tagged = drawing.draw_boxes(BLACK, boxes, ["", "Car"], colours=colours)
    assert plain[30, 20].tolist() == list(colours[0])
    assert plain[30, 75].tolist() == list(colours[1])
    changed = np.nonzero((plain != tagged).any(-1))
    assert changed[1].min() >= 55 and changed[0].max() < 32


def test_class_colours_differ_and_ignore_regions_are_grey():
    colours = [drawing.class_colour(i) for i in range(1, 31)]
    assert len(set(colours)) == 30
    assert drawing.class_colour(0) == drawing.class_colour(-1) == drawing.IGNORED


def test_saved_images_come_back(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
    drawing.save_image(image, tmp_path / "new" / "a.PNG")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new" / "a.PNG")), image)
    with pytest.raises(UsageError, match="a.txt.*[.]png"):
        drawing.save_image(image, tmp_path / "a.txt")


def test_sheet_holds_every_image_in_its_cell():
    images = [np.full((20, 40, 3), value, np.uint8) for value in (50, 100, 150)]
    out = drawing.sheet(images, columns=2, gap=4)
    assert out.shape == (2 * 20 + 3 * 4, 2 * 40 + 3 * 4, 3)
    assert out[14, 20, 0] == 50 and out[14, 60, 0] == 100 and out[38, 20, 0] == 150
    assert out[38, 60, 0] == drawing.PAPER[0]


def test_sheet_resizes_to_the_cell_and_adds_room_for_captions():
    image = np.zeros((20, 40, 3), np.uint8)
    plain = drawing.sheet([image], cell_width=80, gap=0)
    captioned = drawing.sheet([image], captions=["000007 été"], cell_width=80, gap=0)
    assert plain.shape == (40, 80, 3)
    assert captioned.shape[0] > 50 and captioned[40:].min() < 128
