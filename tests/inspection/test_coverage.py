"""Best IoU against brute force, the table of DESIGN.md, fitted anchors."""

import tarfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientdet.config import Config, parse_hparams
from efficientdet.dataset.boxes import paired_iou
from efficientdet.dataset.example import Annotation
from efficientdet.dataset.kitti import parse_labels
from efficientdet.dataset.statistics import Objects, Statistics
from efficientdet.inspection import coverage
from efficientdet.inspection.recommend import recommend
from efficientdet.model.anchors import Anchors


def config(size, **values) -> Config:
    return Config.for_model("efficientdet-d0").override({"image_size": size, **values})


def objects(boxes, image_hw=(375, 1242), types="Car") -> Objects:
    counted = Statistics()
    for box in boxes:
        counted.add("x", *image_hw, [Annotation(tuple(box), 1, types)])
    return counted.objects


def brute_force(boxes, anchors):
    """IoU of each box with each anchor, [N, A]."""
    return np.array([paired_iou(np.tile(box, (len(anchors), 1)), anchors) for box in boxes])


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(*[st.floats(-20, 150)] * 2, *[st.floats(0.5, 120)] * 2), min_size=1, max_size=8
    ),
    st.sampled_from([("64", {}), ("128x64", {"anchor_scale": 2.0}), ("96x160", {"max_level": 5})]),
)
def test_the_nearest_anchor_of_each_shape_is_the_best(corners, setting):
    size, values = setting
    anchors = Anchors(config(size, aspect_ratios=[1.0, (1.4, 0.7), 0.4], **values)).boxes
    boxes = np.array([(y, x, y + height, x + width) for y, x, height, width in corners])
    expected = brute_force(boxes, anchors.astype(np.float64))
    np.testing.assert_allclose(coverage.best_iou(boxes, anchors), expected.max(1), atol=1e-4)
    fewest, most = ((expected >= 0.5 + some).sum(1) for some in (1e-4, -1e-4))
    found = coverage.num_positives(boxes, anchors)
    assert (fewest <= found).all() and (found <= most).all()


def test_an_anchor_covers_itself():
    anchors = Anchors(config("128x64")).boxes
    np.testing.assert_allclose(coverage.best_iou(anchors[::37], anchors), 1, atol=1e-4)


def test_letterbox_scales_by_the_tighter_side():
    one = objects([(621, 0, 1242, 375)])
    np.testing.assert_allclose(coverage.letterbox(one, (384, 1280))[0], [0, 636, 384, 1271.8], 1e-3)
    np.testing.assert_allclose(coverage.letterbox(one, (512, 512))[0], [0, 256, 154.6, 512], 1e-3)
    hw = np.array([[375, 1242], [100, 100]])
    np.testing.assert_allclose(coverage.padding(hw, (512, 512)), [0.698, 0], atol=1e-3)


def test_groups_without_an_object_are_left_out():
    measured = coverage.measure(objects([(0, 0, 20, 20)]), Anchors(config("512")).boxes, (512, 512))
    assert list(measured.missed) == ["all", "small", "Car"]
    assert measured.missed["all"] == 1 and measured.mean_iou["Car"] < 0.5


@pytest.fixture(scope="module")
def all_of_kitti(shared) -> Objects:
    sizes = {}
    for line in (shared / "kitti" / "image_sizes.txt").read_text().splitlines():
        first, last, width, height = map(int, line.split())
        sizes |= dict.fromkeys(range(first, last + 1), (height, width))
    counted = Statistics()
    with tarfile.open(shared / "kitti" / "label_2_all.tar.gz") as archive:
        for member in filter(lambda member: member.isfile(), archive):
            labels, _ = parse_labels(archive.extractfile(member).read(), member.name)
            kept = [item for item in labels.values() if not item.is_dont_care]
            boxes = [((o.left, o.top, o.right, o.bottom), o.type) for o in kept]
            frame = int(member.name[-10:-4])
            counted.add(
                str(frame), *sizes[frame], [Annotation(box, 1, name) for box, name in boxes]
            )
    return counted.objects


# DESIGN.md, "Why small objects were lost": all, Car, Pedestrian, Cyclist, small, medium, large, %.
DESIGN = {
    ("512x512", 4.0): (45.8, 44.8, 51.1, 60.4, 100.0, 53.0, 0.1),
    ("768x768", 4.0): (23.7, 22.8, 29.6, 34.5, 100.0, 12.1, 0.1),
    ("1024x1024", 4.0): (10.7, 10.1, 15.5, 20.3, 60.9, 0.4, 0.1),
    ("1280x384", 4.0): (4.6, 3.9, 8.8, 12.4, 25.3, 0.4, 0.1),
    ("1280x384", 2.0): (1.4, 0.8, 5.1, 3.3, 2.6, 1.4, 0.8),
}


def missed(kitti: Objects, chosen: Config) -> tuple[float, ...]:
    measured = coverage.measure(kitti, Anchors(chosen).boxes, chosen.image_hw)
    groups = ("all", "Car", "Pedestrian", "Cyclist", "small", "medium", "large")
    return tuple(round(100 * measured.missed[name], 1) for name in groups)


@pytest.mark.parametrize("setting", DESIGN)
def test_the_table_of_the_design(all_of_kitti, setting):
    size, scale = setting
    assert missed(all_of_kitti, config(size, anchor_scale=scale)) == DESIGN[setting]


# The last columns of the table in docs/recipes.md, anchors an object and % lacking, for its rows.
OF_THE_TABLE = {
    ("512x512", ""): (10.4, 53.4),
    ("768x768", ""): (15.7, 31.5),
    ("1024x1024", ""): (20.0, 17.0),
    ("1280x384", ""): (22.9, 8.5),
    ("1280x384", "anchor_scale=3"): (14.5, 5.5),
    ("1280x384", "anchor_scale=2"): (6.9, 26.3),
    ("1280x384", "anchor_scale=2.5,aspect_ratios=1.08*2.16*0.4"): (10.0, 10.0),
    ("1280x384", "min_level=2"): (27.3, 0.7),
}
# The columns before, for rows that the design has not.
MISSED = {
    "anchor_scale=3": (1.3, 0.8, 4.1, 5.9, 6.4, 0.4, 0.1),
    "anchor_scale=2.5,aspect_ratios=1.08*2.16*0.4": (0.7, 0.2, 2.9, 4.1, 3.0, 0.3, 0.0),
    "min_level=2": (0.4, 0.1, 1.6, 0.9, 0.9, 0.4, 0.1),
}


@pytest.mark.parametrize("setting", OF_THE_TABLE)
def test_the_table_of_the_recipes(all_of_kitti, setting):
    size, hparams = setting
    chosen = config(size, **parse_hparams(hparams))
    measured = coverage.measure(all_of_kitti, Anchors(chosen).boxes, chosen.image_hw)
    found = round(measured.positives["all"], 1), round(100 * measured.lacking["all"], 1)
    assert found == OF_THE_TABLE[setting]


@pytest.mark.parametrize("hparams", MISSED)
def test_what_the_other_rows_miss(all_of_kitti, hparams):
    chosen = config("1280x384", **parse_hparams(hparams))
    assert missed(all_of_kitti, chosen) == MISSED[hparams]


def fit(some: Objects, size: str) -> tuple[float, list[float], list[float]]:
    """What is fitted, and what objects lack with it and with scales of 2 and 4."""
    chosen = config(size)

    def make_anchors(scale, ratios):
        return Anchors(chosen.override({"anchor_scale": scale, "aspect_ratios": ratios})).boxes

    scale, ratios = coverage.fit(some, chosen.image_hw, make_anchors)
    lacking = [
        coverage.measure(some, make_anchors(*one), chosen.image_hw).lacking["all"]
        for one in ((scale, ratios), (2.0, [1.0, 2.0, 0.5]), (4.0, [1.0, 2.0, 0.5]))
    ]
    return scale, ratios, lacking


def test_anchors_fitted_to_kitti_lack_less_and_keep_their_shapes(all_of_kitti):
    scale, ratios, (fitted, small, large) = fit(all_of_kitti[::20], "1280x384")
    assert 3 <= scale <= 3.5 and ratios == [1.0, 2.0, 0.5]
    assert fitted < 0.07 < 0.08 < large < small


def test_other_shapes_are_fitted_where_they_are_worth_it_in_the_order_of_the_old():
    flat = objects([(0, 10 * i, 30 + i, 10 * i + (30 + i) / (4 + i % 3)) for i in range(30)])
    _, ratios, (fitted, *stock) = fit(flat, "1280x384")
    assert 4 <= ratios[2] < ratios[0] < ratios[1] <= 6
    assert fitted < min(stock) - coverage.WORTH_A_FIT


def test_objects_lack_what_they_have_not_of_nine():
    anchors = Anchors(config("128")).boxes
    some = objects([(0, 0, 4, 4), (20, 20, 90, 90)], image_hw=(128, 128))
    matches = coverage.match(some, anchors, (128, 128))
    assert matches.positives[0] == 0 and matches.lacking[0] == 1
    assert matches.positives[1] >= 1 and matches.lacking[1] == max(0, 9 - matches.positives[1]) / 9


def test_the_recommendation_for_all_of_kitti_is_the_recipe(all_of_kitti):
    """D0 in 6 GB, four images; the bytes are what `training.memory.estimate` says of it."""
    stock = Config.for_model("efficientdet-d0")
    found = recommend(all_of_kitti, stock, lambda _: (46.7e6, 2096.0), memory_gb=6, batch_size=4)
    assert found.chosen.row.typed.startswith("image_size=1280x384,anchor_scale=3.0,")
    recipe = stock.override(parse_hparams("configs/kitti_d0.yaml"))
    assert recipe.override(parse_hparams(found.chosen.row.typed)) == recipe
    own = next(one for one in found.candidates[1:] if one.config.image_hw == recipe.image_hw)
    assert own.config.anchor_scale == 4.0
    assert found.chosen.lacking < own.lacking - 0.04


def test_ratios_are_weighted_means_of_their_clusters():
    boxes = [(0, 0, 10, 20)] * 5 + [(0, 0, 20, 20)] * 5 + [(0, 0, 40, 20)] * 5
    many = objects(boxes)
    assert coverage.fit_ratios(many, np.full(15, 1 / 15), 3) == [0.5, 1.0, 2.0]
    assert coverage.fit_ratios(many, np.full(15, 1 / 15), 1) == [1.0]
