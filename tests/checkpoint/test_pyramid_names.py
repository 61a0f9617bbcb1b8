import pytest
from hypothesis import given
from hypothesis import strategies as st

from efficientdet.checkpoint.pyramid_names import PyramidNames
from efficientdet.model.bifpn import bifpn_nodes

STOCK = PyramidNames(3, 7)


def test_nodes_of_the_paper():
    # Figure 2 (d) for P3..P7: four nodes down, four up; the middle ones take three maps.
    assert [tuple(node) for node in bifpn_nodes(3, 7)] == [
        (6, (3, 4)), (5, (2, 5)), (4, (1, 6)), (3, (0, 7)),
        (4, (1, 7, 8)), (5, (2, 6, 9)), (6, (3, 5, 10)), (7, (4, 11)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("levels", "name", "expected"),
    [
        ((2, 7), "fpn_cells/cell_1/fnode0/op_after_combine6/conv/bias",
         "fpn_cells/cell_1/fnode0/op_after_combine5/conv/bias"),
        ((2, 7), "fpn_cells/cell_0/fnode1/resample_0_3_7/bn/beta",
         "fpn_cells/cell_0/fnode1/resample_0_2_6/bn/beta"),
        ((2, 7), "fpn_cells/cell_0/fnode6/WSM_2", "fpn_cells/cell_0/fnode4/WSM_2"),
        ((2, 7), "fpn_cells/cell_0/fnode4/WSM", None),  # P2 on the way down
        ((2, 7), "fpn_cells/cell_0/fnode5/WSM", None),  # P3 on the way up
        # P7 is the top of the stock pyramid: on its way up it takes no map of the way down.
        ((3, 8), "fpn_cells/cell_0/fnode8/WSM_2", "fpn_cells/cell_0/fnode7/WSM_1"),
        ((3, 8), "fpn_cells/cell_0/fnode8/WSM_1", None),
        ((2, 7), "resample_p6/conv2d/kernel", "resample_p6/conv2d/kernel"),
        ((2, 7), "class_net/class-0-bn-2/beta", "class_net/class-0-bn-2/beta"),
        ((3, 7), "fpn_cells/cell_0/fnode4/WSM_2", "fpn_cells/cell_0/fnode4/WSM_2"),
    ],
)  # fmt: skip
def test_variables_of_the_same_part_in_the_stock_pyramid(levels, name, expected):
    assert PyramidNames(*levels).translate(name, STOCK) == expected


levels = st.tuples(st.integers(2, 4), st.integers(5, 8))


def names_of_cell(min_level, max_level):
    number = max_level - min_level + 1
    for index, (_, inputs) in enumerate(bifpn_nodes(min_level, max_level)):
        node = f"fpn_cells/cell_0/fnode{index}"
        yield f"{node}/op_after_combine{number + index}/bn/beta"
        for i, source in enumerate(inputs):
            yield f"{node}/WSM" + (f"_{i}" if i else "")
            yield f"{node}/resample_{i}_{source}_{number + index}/conv2d/kernel"


@given(levels, levels)
def test_no_variable_serves_twice_and_each_exists(here, there):
    translated = [
        PyramidNames(*here).translate(n, PyramidNames(*there)) for n in names_of_cell(*here)
    ]
    found = [name for name in translated if name]
    assert len(found) == len(set(found))
    assert set(found) <= set(names_of_cell(*there))
    if here == there:
        assert translated == list(names_of_cell(*here))


def test_levels_are_read_from_the_heads():
    names = [f"class_net/class-0-bn-{level}/beta" for level in (4, 5, 6)]
    assert PyramidNames.of(names).maps == PyramidNames(4, 6).maps
    assert PyramidNames.of(["efficientnet-b0/stem/conv2d/kernel"]) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("class_net/class-1-bn-2/moving_mean", "class_net/class-1-bn-3/moving_mean"),
        ("box_net/box-0-bn-8/gamma", "box_net/box-0-bn-7/gamma"),
        ("box_net/box-0-bn-7/gamma", None),  # there is one of its own
        ("fpn_cells/cell_0/fnode4/op_after_combine10/bn/gamma", None),
    ],
)
def test_a_head_norm_of_a_new_level_is_like_that_of_the_nearest(name, expected):
    assert STOCK.nearest_head_norm(name) == expected
