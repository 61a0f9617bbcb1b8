import json
import re
import shutil
import tarfile

import numpy as np
import pytest

from efficientdet.checkpoint.bundle import write_bundle
from efficientdet.checkpoint.report import REPORT_FILE, read_restored_names
from efficientdet.checkpoint.restore import restore
from efficientdet.checkpoint.stored import EMA, read_weights
from efficientdet.config import Config, load_yaml, parse_hparams
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UserError
from efficientdet.inference.detector import Detector
from efficientdet.model.detector import automl_names, build_detector, part_of

SMALL = {"image_size": 64, "fpn_cell_repeats": 1, "box_class_repeats": 1}
KITTI = LabelMap.kitti()
_PREDICT = "class_net/class-predict"


def config_with(name="efficientdet-lite0", **changes):
    return Config.for_model(name).override(SMALL | changes)


@pytest.fixture(scope="module")
def coco_arrays():
    """A random network of COCO's 90 classes, as AutoML stores it: raw values and other EMA ones."""
    random = np.random.default_rng(0)
    variables = automl_names(build_detector(config_with()))
    raw = {n: random.normal(size=v.shape).astype("float32") for n, v in variables.items()}
    averaged = {f"{name}{EMA}": array + 1 for name, array in raw.items()}
    return raw | averaged | {f"{_PREDICT}/bias/Momentum": raw[f"{_PREDICT}/bias"]}


@pytest.fixture(scope="module")
def coco(coco_arrays, tmp_path_factory):
    """Its folder, as published."""
    folder = tmp_path_factory.mktemp("published") / "efficientdet-lite0"
    write_bundle(folder / "model", coco_arrays | {"global_step": np.int64(7)})
    (folder / "checkpoint").write_text('model_checkpoint_path: "/elsewhere/model"\n')
    return folder


@pytest.fixture(scope="module")
def kitti_model():
    return build_detector(config_with(num_classes=8))


def values(model):
    return {name: variable.numpy() for name, variable in automl_names(model).items()}


def test_everything_is_restored_from_the_averages(coco, coco_arrays):
    model = build_detector(config_with())
    report = restore(model, str(coco), config_with())
    assert report.names("restored") == list(values(model))
    assert report.left_over == []
    assert report.num_averaged == len(values(model))
    for name, value in values(model).items():
        np.testing.assert_array_equal(value, coco_arrays[f"{name}{EMA}"])
    report.require_complete()


def test_raw_values_where_there_is_no_average(coco_arrays, tmp_path):
    only = f"{_PREDICT}/bias"
    write_bundle(tmp_path / "model", {n: a for n, a in coco_arrays.items() if n != only + EMA})
    model = build_detector(config_with())
    restore(model, str(tmp_path / "model"), config_with())
    np.testing.assert_array_equal(values(model)[only], coco_arrays[only])
    other = f"{_PREDICT}/pointwise_kernel"
    np.testing.assert_array_equal(values(model)[other], coco_arrays[other + EMA])


def forms(coco, tmp_path, form):
    if form == "archive":
        with tarfile.open(tmp_path / "efficientdet-lite0.tar.gz", "w:gz") as tar:
            tar.add(coco, arcname="efficientdet-lite0")
        return tmp_path / "efficientdet-lite0.tar.gz"
    if form == "folder without state file":
        (tmp_path / "folder").mkdir()
        for file in coco.glob("model.*"):
            shutil.copy(file, tmp_path / "folder" / f"x{file.name}")
        return tmp_path / "folder"
    return {"prefix": coco / "model", "index": coco / "model.index", "folder": coco}[form]


@pytest.mark.parametrize(
    "form", ["prefix", "index", "folder", "folder without state file", "archive"]
)
def test_every_form_holds_the_same(coco, coco_arrays, tmp_path, form):
    stored = read_weights(str(forms(coco, tmp_path, form)))
    assert len(stored.arrays) == stored.num_averaged == len(coco_arrays) // 2
    np.testing.assert_array_equal(
        stored.arrays[f"{_PREDICT}/bias"], coco_arrays[f"{_PREDICT}/bias{EMA}"]
    )


def test_other_classes_start_at_random_and_say_so(coco, kitti_model, tmp_path):
    before = values(kitti_model)
    report = restore(kitti_model, str(coco), config_with(num_classes=8), label_map=KITTI)
    reinitialised = report.names("reinitialised")
    assert reinitialised == [f"{_PREDICT}/pointwise_kernel", f"{_PREDICT}/bias"]
    assert sorted(report.left_over) == sorted(reinitialised)
    for name in reinitialised:
        np.testing.assert_array_equal(values(kitti_model)[name], before[name])
    assert "90 classes in the checkpoint, 8 here" in report.line()
    with pytest.raises(UserError, match="2 variables would be random.*by_id"):
        report.require_complete()
    written = json.loads(report.write(tmp_path).read_text())
    assert written["parts"]["class_head"]["reinitialised"] == 2
    assert len(written["variables"]) == len(before)


def test_by_id_takes_the_first_rows(coco, coco_arrays, kitti_model):
    report = restore(kitti_model, str(coco), config_with(num_classes=8), classes="by_id")
    stored = coco_arrays[f"{_PREDICT}/bias{EMA}"].reshape(9, 90)
    restored = values(kitti_model)[f"{_PREDICT}/bias"].reshape(9, 8)
    np.testing.assert_array_equal(restored, stored[:, :8])
    report.require_complete()


def test_rows_of_coco_classes(coco, coco_arrays, kitti_model):
    before = values(kitti_model)[f"{_PREDICT}/pointwise_kernel"].reshape(64, 9, 8)
    config = config_with(num_classes=8)
    report = restore(kitti_model, str(coco), config, label_map=KITTI, init_classes=True)
    stored = coco_arrays[f"{_PREDICT}/pointwise_kernel{EMA}"].reshape(64, 9, 90)
    kernel = values(kitti_model)[f"{_PREDICT}/pointwise_kernel"].reshape(64, 9, 8)
    for kitti, coco_id in {"Car": 3, "Pedestrian": 1, "Tram": 7}.items():
        np.testing.assert_array_equal(kernel[..., KITTI.id_of(kitti) - 1], stored[..., coco_id - 1])
    misc = KITTI.id_of("Misc") - 1
    np.testing.assert_array_equal(kernel[..., misc], before[..., misc])
    assert len(report.names("adapted")) == 2


def test_rows_of_kept_anchors(coco, coco_arrays):
    ratios = [[0.63, 1.58], 1.0, 2.0]  # the first is 0.4: nearest to 0.5
    config = config_with(num_scales=3, aspect_ratios=ratios, anchor_scale=2.0)
    model = build_detector(config)
    report = restore(model, str(coco), config)
    stored = coco_arrays[f"box_net/box-predict/bias{EMA}"].reshape(3, 3, 4)
    bias = values(model)["box_net/box-predict/bias"].reshape(3, 3, 4)
    np.testing.assert_array_equal(bias[:, 1:], stored[:, :2])
    np.testing.assert_array_equal(bias[:, 0], stored[:, 2])
    assert "6 of 9 anchors" in report.line() and "start from the nearest" in report.line()
    assert len(report.names("adapted")) == 4 and not report.names("reinitialised")


def test_own_run_is_matched_by_its_own_anchors_and_names(coco_arrays, tmp_path):
    config = config_with(num_classes=3, num_scales=1, aspect_ratios=[1.0, 2.0])
    names = LabelMap((("Cyclist",), ("Car",), ("Tram",)))
    model = build_detector(config)
    write_bundle(tmp_path / "model.ckpt-9", values(model) | {"state/updates": np.float32(3)})
    config.save(tmp_path / "config.yaml")
    names.write(tmp_path / "label_map.txt")
    other = config_with(num_classes=2, num_scales=1, aspect_ratios=[2.0, 1.0])
    target = build_detector(other)
    here = LabelMap((("Car", "Van"), ("Cyclist",)))
    report = restore(target, str(tmp_path), other, label_map=here)
    expected = values(model)[f"{_PREDICT}/pointwise_kernel"].reshape(64, 2, 3)
    kernel = values(target)[f"{_PREDICT}/pointwise_kernel"].reshape(64, 2, 2)
    np.testing.assert_array_equal(kernel, expected[:, ::-1][..., [1, 0]])
    report.require_complete()
    assert report.left_over == []


def test_pyramid_from_level_two_starts_from_the_stock_one(coco):
    config = config_with(min_level=2)
    report = restore(build_detector(config), str(coco), config)
    assert all(part_of(name) != "backbone" for name in report.names("absent"))
    restored = set(report.names("restored"))
    assert "fpn_cells/cell_0/fnode0/op_after_combine6/conv/bias" in restored
    assert report.names("adapted") == [
        name for name in values(build_detector(config)) if "-bn-2/" in name
    ]
    assert "new level 2: the heads' BatchNorms begin as those of the nearest" in report.line()
    with pytest.raises(UserError, match="random or adapted"):
        report.require_complete()


TINY = {"backbone_name": "efficientnet-tiny", "fpn_num_filters": 16, "num_classes": 2}


def tiny(name="efficientdet-d0", **changes):
    return config_with(name, **TINY, **changes)


def store_random(folder, config, **other):
    """A checkpoint of random weights, with moving statistics that are not at 0 and 1."""
    random = np.random.default_rng(1)
    variables = automl_names(build_detector(config))
    arrays = {n: random.normal(size=v.shape).astype("float32") for n, v in variables.items()}
    write_bundle(folder / "model", arrays | other)
    return arrays


def test_batch_norms_of_a_new_level_begin_as_those_of_the_nearest(tmp_path):
    arrays = store_random(tmp_path, tiny())
    model = build_detector(tiny(min_level=2))
    restore(model, str(tmp_path), tiny(min_level=2))
    for leaf in ("gamma", "beta", "moving_mean", "moving_variance"):
        for layer in ("class_net/class-0-bn-", "box_net/box-0-bn-"):
            value = values(model)[f"{layer}2/{leaf}"]
            np.testing.assert_array_equal(value, arrays[f"{layer}3/{leaf}"])


@pytest.mark.parametrize(
    ("stored", "here", "right"),
    [
        # A published checkpoint: the model's row in the table says it.
        (("efficientdet-d0", None), {"anchor_scale": 2.0}, "anchor_scale=4.0"),
        (("efficientdet-d0", None), {"anchor_scale": 4.0}, None),
        (("efficientdet-d7", None), {}, None),
        (("efficientdet-d7", None), {"anchor_scale": 4.0}, "anchor_scale=5.0"),
        (("efficientdet-d7x", None), {"anchor_scale": 5.0}, "anchor_scale=4.0"),
        # A run: its config.yaml, which may be AutoML's or hold only the model's name.
        (("efficientdet-d0", "anchor_scale: 2.0"), {}, "anchor_scale=2.0"),
        (("efficientdet-d0", "anchor_scale: 2.0"), {"anchor_scale": 2.0}, None),
        (("efficientdet-d0", "{name: efficientdet-lite0, strategy: null}"), {}, "anchor_scale=3.0"),
        (("efficientdet-d0", "{strategy: null}"), {}, None),
        # One a level.
        (("efficientdet-d0", None), {"anchor_scale": [4.0] * 5}, None),
        (
            ("efficientdet-d0", None),
            {"anchor_scale": [2.0] + [4.0] * 4},
            "anchor_scale=4.0",
        ),
        (
            ("efficientdet-d0", "anchor_scale: [2.0, 3.0, 4.0, 4.0, 4.0]"),
            {},
            "anchor_scale=2.0*3.0*4.0*4.0*4.0",
        ),
    ],
)
def test_another_anchor_scale_is_fit_to_train_on_and_not_to_evaluate(tmp_path, stored, here, right):
    name, written = stored
    store_random(tmp_path, tiny(name))
    if written:
        (tmp_path / "config.yaml").write_text(written)
    config = tiny(name, **here)
    model = build_detector(config)
    if right is None:
        Detector(model, config).load(tmp_path)
        return
    with pytest.raises(UserError, match=re.escape(f"--hparams={right}")) as error:
        Detector(model, config).load(tmp_path)
    assert "\n" not in str(error.value)
    report = restore(model, str(tmp_path), config)
    assert f"trained with {right}, here" in report.line() and not report.names("reinitialised")
    hparams = parse_hparams(right)
    Detector(model, config.override(hparams)).load(tmp_path)


def test_anchor_scales_of_levels_that_are_new_do_not_count(tmp_path):
    store_random(tmp_path, tiny())
    for scales, right in (([3.0] + [4.0] * 5, None), ([3.0] * 6, "4.0")):
        config = tiny(min_level=2, anchor_scale=scales)
        report = restore(build_detector(config), str(tmp_path), config)
        assert report.right_scale == (right and f"anchor_scale={right}")


def test_nothing_is_known_of_the_anchors_of_a_run_without_its_config(tmp_path):
    store_random(tmp_path, tiny(), **{"state/updates": np.float32(3)})
    config = tiny(anchor_scale=2.0)
    Detector(build_detector(config), config).load(tmp_path)


def test_a_backbone_has_no_anchors(tmp_path):
    store_random(tmp_path, tiny())
    config = tiny(anchor_scale=2.0)
    report = restore(build_detector(config), str(tmp_path), config, backbone_only=True)
    assert report.right_scale is None and not report.notes


def test_the_published_heads_are_adapted_to_the_anchors_of_the_inspector(tmp_path):
    """In training; evaluated, they would decode every box on an anchor of another shape."""
    arrays = store_random(tmp_path, tiny())
    config = tiny(aspect_ratios=[1.08, 2.16, 0.4])
    model = build_detector(config)
    report = restore(model, str(tmp_path), config)
    for head in (_PREDICT, "box_net/box-predict"):
        for leaf in ("pointwise_kernel", "bias"):
            np.testing.assert_array_equal(values(model)[f"{head}/{leaf}"], arrays[f"{head}/{leaf}"])
    assert len(report.names("adapted")) == 4
    assert "0 of 9 anchors" in report.line()
    with pytest.raises(UserError, match="4 variables would be random or adapted.*0 of 9 anchors"):
        report.require_complete()


def test_the_written_report_names_what_began_with_the_checkpoint(tmp_path):
    assert read_restored_names(tmp_path) is None
    store_random(tmp_path, tiny())
    config = tiny(min_level=2)
    report = restore(build_detector(config), str(tmp_path), config)
    report.write(tmp_path)
    names = read_restored_names(tmp_path)
    assert names == report.restored_names
    assert "class_net/class-0-bn-2/moving_mean" in names
    assert set(report.names("absent")).isdisjoint(names) and report.names("absent")
    (tmp_path / REPORT_FILE).write_text('{"variables": [{}]}')
    with pytest.raises(UserError, match=f"{REPORT_FILE}: not readable.*expected the report"):
        read_restored_names(tmp_path)


@pytest.mark.parametrize("published", ["detector", "classifier"])
def test_backbone_only(coco, coco_arrays, kitti_model, tmp_path, published):
    path = coco
    if published == "classifier":  # EfficientNet's own checkpoints have a head of their own
        head = {"efficientnet-lite0/head/conv2d/kernel": np.ones((1, 1, 2, 3), "float32")}
        backbone = {n: a for n, a in coco_arrays.items() if part_of(n) == "backbone"}
        path = tmp_path / "model.ckpt"
        write_bundle(path, backbone | head)
    before = values(kitti_model)
    config = config_with(num_classes=8)
    report = restore(kitti_model, str(path), config, backbone_only=True)
    assert {part_of(outcome.name) for outcome in report.outcomes} == {"backbone"}
    assert report.backbone_share == 1
    assert report.left_over
    for name, value in values(kitti_model).items():
        changed = not np.array_equal(value, before[name])
        assert not changed or part_of(name) == "backbone"


def test_too_little_backbone_changes_nothing(coco, coco_arrays):
    config = config_with("efficientdet-lite1")
    model = build_detector(config)
    before = values(model)
    with pytest.raises(UserError, match=r"only 0% .*efficientnet-lite0 .*efficientdet-lite0"):
        restore(model, str(coco), config)
    for name, value in values(model).items():
        np.testing.assert_array_equal(value, before[name])
    assert restore(model, str(coco), config, allow_partial=True).backbone_share == 0


def damage(kind, coco, tmp_path):
    """A damaged copy of the checkpoint, and what the error must say."""
    folder = tmp_path / "damaged"
    shutil.copytree(coco, folder)
    data = folder / "model.data-00000-of-00001"
    content = data.read_bytes()
    if kind == "truncated":
        data.write_bytes(content[: len(content) // 2])
    elif kind == "flipped bit":
        data.write_bytes(content[:1000] + bytes([content[1000] ^ 1]) + content[1001:])
    elif kind == "no data file":
        data.unlink()
    elif kind == "empty index":
        (folder / "model.index").write_bytes(b"")
    elif kind == "index of something else":
        (folder / "model.index").write_bytes(b"not an index at all" * 100)
    elif kind == "empty folder":
        shutil.rmtree(folder)
        folder.mkdir()
    elif kind == "absent":
        shutil.rmtree(folder)
    return folder


@pytest.mark.parametrize(
    "kind",
    ["truncated", "flipped bit", "no data file", "empty index", "index of something else",
     "empty folder", "absent"],
)  # fmt: skip
def test_damage_is_one_clear_line(kind, coco, kitti_model, tmp_path):
    before = values(kitti_model)
    with pytest.raises(UserError) as error:
        restore(kitti_model, str(damage(kind, coco, tmp_path)), config_with(num_classes=8))
    assert "damaged" in str(error.value)
    assert "\n" not in str(error.value)
    for name, value in values(kitti_model).items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("kind", ["half", "empty", "a web page", "absent", "without checkpoint"])
def test_damaged_archives(kind, coco, tmp_path):
    archive = forms(coco, tmp_path, "archive")
    content = archive.read_bytes()
    if kind == "without checkpoint":
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(__file__, arcname="readme")
    elif kind == "absent":
        archive.unlink()
    else:
        pieces = {"half": content[: len(content) // 2], "empty": b"", "a web page": b"<html>" * 99}
        archive.write_bytes(pieces[kind])
    with pytest.raises(UserError, match=archive.name) as error:
        read_weights(str(archive))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("foo.keras", b"PK\x03\x04" + b"0" * 99, "a zip file"),
        ("foo.tflite", b"\x1c\0\0\0TFL3" + b"0" * 99, "a TFLite model"),
        ("saved_model.pb", b"\x08\x01" + b"0" * 99, "a graph or SavedModel"),
    ],
)
def test_a_file_of_another_kind_is_called_by_its_name(tmp_path, name, content, kind):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        read_weights(str(tmp_path / name))
    assert f"{name}: {kind}" in str(error.value) and "\n" not in str(error.value)
    assert "not read here; expected a prefix" in str(error.value)
    assert "download" not in str(error.value)


def test_nothing_there_names_what_was_looked_for(tmp_path):
    for name in ("model", "efficientdet-d0.tar.gz"):
        with pytest.raises(UserError, match=rf"{name}: no such file or folder.*prefix.*folder"):
            read_weights(str(tmp_path / name))


def test_automl_model_dir(coco_arrays, tmp_path):
    """Its config.yaml has keys that do not exist here, and other forms of the same anchors."""
    write_bundle(tmp_path / "model.ckpt-10", coco_arrays)
    (tmp_path / "config.yaml").write_text(
        "aspect_ratios: [[1.0, 1.0], [1.4, 0.7], [0.7, 1.4]]\nstrategy: null\nnum_scales: 3\n"
    )
    model = build_detector(config_with(num_classes=8))
    report = restore(model, str(tmp_path), config_with(num_classes=8), classes="by_id")
    report.require_complete()
    (tmp_path / "config.yaml").write_text("aspect_ratios: wide\n")
    with pytest.raises(UserError, match="aspect_ratios='wide'"):
        read_weights(str(tmp_path))


def test_non_finite_weights_are_refused(tmp_path):
    write_bundle(tmp_path / "model", {"a/kernel": np.array([1, np.nan], "float32")})
    with pytest.raises(UserError, match="a/kernel holds NaN"):
        read_weights(str(tmp_path / "model"))


def test_newest_of_several_unless_nothing_tells(tmp_path):
    for name in ("model.ckpt-9", "model.ckpt-10"):
        write_bundle(tmp_path / name, {"step": np.float32(name[-1])})
    assert read_weights(str(tmp_path)).arrays["step"] == 0
    write_bundle(tmp_path / "other", {"step": np.float32(1)})
    with pytest.raises(UserError, match=r"several.*model\.ckpt-10, model\.ckpt-9, other"):
        read_weights(str(tmp_path))


def test_a_run_is_evaluated_with_its_own_anchors(shared):
    """Real weights: trained by this program, with a scale and ratios of their own."""
    folder = shared / "runs" / "lite0_768x240"
    if not folder.is_dir():
        pytest.skip("needs ../shared/runs/lite0_768x240")
    config = Config().override(load_yaml(folder / "config.yaml"))
    model = build_detector(config.override({"image_size": 64}))
    Detector(model, config).load(folder, KITTI)
    stock = config.override({"anchor_scale": 4.0})
    with pytest.raises(UserError, match="--hparams=anchor_scale=2.0"):
        Detector(model, stock).load(folder, KITTI)
