import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientdet.config import Config
from efficientdet.errors import UsageError
from efficientdet.model.anchors import Anchors, decode, encode

GOLDEN = {  # name in golden/anchors.npz -> configuration
    "512x512": {"image_size": 512},
    "h384_w1280": {"image_size": "1280x384"},
    "128x128": {"image_size": 128},
    "h375_w1242": {"image_size": "1242x375"},
    "l3to8_256x256": {"image_size": 256, "max_level": 8},
    "pairs_and_per_level_scale_128x128": {
        "image_size": 128,
        "aspect_ratios": [(0.7, 1.4), (1.0, 1.0), (1.4, 0.7)],
        "anchor_scale": [3.0, 4.0, 4.0, 4.0, 5.0],
    },
}


@pytest.mark.parametrize("name", GOLDEN)
def test_equal_automl(name, root):
    golden = np.load(root / "tests/golden/anchors.npz")
    boxes = Anchors(Config().override(GOLDEN[name])).boxes
    assert len(boxes) == golden[f"{name}_count"]
    np.testing.assert_array_equal(boxes[golden[f"{name}_rows"]], golden[f"{name}_boxes"])


@pytest.mark.parametrize("name", ["512x512", "h384_w1280", "l3to8_256x256"])
def test_every_row_equals_automl(name, shared):
    golden = np.load(shared / "golden/automl/anchors.npz")
    boxes = Anchors(Config().override(GOLDEN[name])).boxes
    np.testing.assert_array_equal(boxes, golden[name])


def test_min_level_2_puts_finer_anchors_first():
    fine = Anchors(Config(image_size="160x96", min_level=2))
    stock = Anchors(Config(image_size="160x96"))
    finest = len(fine.boxes) - len(stock.boxes)
    assert finest == 24 * 40 * 9
    np.testing.assert_array_equal(fine.boxes[finest:], stock.boxes)
    first = fine.boxes[0]
    np.testing.assert_array_equal(first, [2 - 8, 2 - 8, 2 + 8, 2 + 8])


def test_a_ratio_is_width_over_height():
    ymin, xmin, ymax, xmax = Anchors(Config(image_size=128, aspect_ratios=[4.0])).boxes[0]
    assert (xmax - xmin) / (ymax - ymin) == pytest.approx(4.0)
    assert (xmax - xmin) * (ymax - ymin) == pytest.approx(32**2)


def test_wrong_number_of_scales_is_one_clear_line():
    with pytest.raises(UsageError, match="2 values, expected one, or one for each of the 5 levels"):
        Anchors(Config(anchor_scale=[3.0, 4.0]))


@settings(deadline=None)  # the first call compiles
@given(
    st.tuples(*[st.floats(0, 500)] * 2),
    st.tuples(*[st.floats(1, 500)] * 2),
    st.sampled_from([0, 100, 1000, -1]),
)
def test_decode_inverts_encode(corner, size, row):
    anchors = Anchors(Config(image_size=128)).boxes[[row]]
    box = np.float32([[*corner, corner[0] + size[0], corner[1] + size[1]]])
    np.testing.assert_allclose(decode(encode(box, anchors), anchors), box, atol=2e-3)
