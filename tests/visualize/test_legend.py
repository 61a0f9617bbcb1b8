"""The strip that tells what boxes mean."""

import numpy as np

from efficientdet.visualize.legend import Key, add_legend

RED, BLUE = (250, 0, 0), (0, 0, 250)


def test_each_key_is_drawn_above_the_picture_which_stays_as_it_is():
    picture = np.full((30, 400, 3), 7, np.uint8)
    out = add_legend(picture, [Key("object", RED), Key("ignore region", BLUE, dashed=True)])
    np.testing.assert_array_equal(out[-30:], picture)
    counts = [(out == colour).all(-1).sum() for colour in (RED, BLUE)]
    assert 0 < counts[1] < 0.8 * counts[0]


def test_many_keys_stand_in_several_lines():
    keys = [Key(f"class {i}", (i, 200, 0)) for i in range(20)]
    out = add_legend(np.zeros((10, 300, 3), np.uint8), keys)
    assert out.shape[1] == 300
    assert all((out == (i, 200, 0)).all(-1).any() for i in range(20))


def test_a_picture_narrower_than_a_key_gets_a_margin():
    out = add_legend(np.full((5, 1, 3), 7, np.uint8), [Key("a name that is long", RED)])
    assert out.shape[1] > 100 and (out[-5:, 0] == 7).all() and (out[-5:, 1:] == 250).all()
    text = (out[:-5] < 100).all(-1)
    assert text.any() and not text[:, -3:].any()
