"""Batches: golden letterbox, order, resume, padding, limits."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from efficientdet.config import Config, load_yaml
from efficientdet.dataset.example import Annotation, make_example
from efficientdet.dataset.image import ImageHeader
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.manifest import Manifest
from efficientdet.errors import UserError
from efficientdet.input import geometry
from efficientdet.input.augmentation import random_scale
from efficientdet.input.pipeline import InputPipeline, finish, preprocess, to_pixels
from efficientdet.model.pixels import normalise
from efficientdet.model.roles import IGNORE

GOLDEN = Path(__file__).parents[1] / "golden" / "preprocess.npz"
SIZES = {"64x64": (64, 64), "_h48_w160": (48, 160), "_h160_w320": (160, 320)}
EVERYTHING = {
    "jitter_min": 0.8,
    "jitter_max": 1.5,
    "crop_prob": 0.5,
    "photometric": 0.5,
    "mosaic_prob": 0.5,
    "mosaic_close_epochs": 1,
    "copy_paste_prob": 0.5,
    "repeat_threshold": 0.9,
}


def config(**values) -> Config:
    """A small input; no change of the images unless `values` say so."""
    quiet = {"image_size": "96x64", "jitter_min": 1.0, "jitter_max": 1.0, "input_rand_hflip": False}
    return Config.for_model("efficientdet-d0").override(quiet | values)


def annotation(box, label=1, text="Car") -> Annotation:
    return Annotation(box, label, text, is_crowd=label == 0)


def write_record(path: Path, frames: dict[str, list[Annotation]]) -> Path:
    """A record of 120x40 PNG frames with its manifest; the pixels of each are its number."""
    header = ImageHeader("png", 40, 120)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number, (source_id, objects) in enumerate(frames.items()):
            image = tf.io.encode_png(np.full((40, 120, 3), number, np.uint8)).numpy()
            writer.write(make_example(image, header, source_id, objects))
    most = max(map(len, frames.values()))
    Manifest(len(frames), LabelMap.kitti(), most, class_counts={}).write(path)
    return path


@pytest.fixture(scope="module")
def record(tmp_path_factory) -> Path:
    """Seven frames: a car each, in every third one a cyclist and a DontCare region too."""
    rare = [annotation((60, 5, 80, 30), 3, "Cyclist"), annotation((90, 5, 110, 20), 0, "DontCare")]
    car = annotation((10, 10, 50, 30))
    frames = {f"{i:06d}": [car, *(rare if i % 3 == 0 else [])] for i in range(7)}
    return write_record(tmp_path_factory.mktemp("records") / "train.record", frames)


def pipeline(
    files, training=True, batch_size=2, num_classes=3, max_instances=6, seed=1,
    examples_per_epoch=None, image_dtype="float32", rows=None, **values,
):  # fmt: skip
    files = [files] if isinstance(files, Path) else files
    return InputPipeline(
        files,
        config(**values),
        batch_size=batch_size,
        training=training,
        num_classes=num_classes,
        max_instances=max_instances,
        seed=seed,
        examples_per_epoch=examples_per_epoch,
        image_dtype=image_dtype,
        rows=rows,
    )


def assert_same(first, second):
    assert len(first) == len(second) > 0
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key], err_msg=key)


# --- AutoML's numbers ---


def whole_pixel_scale(golden, key):
    """AutoML's scale of each axis as its picture shows it, where it says one nominal number."""
    shown = np.argwhere(golden[f"{key}_image"].any(-1)).max(0) + 1
    return golden["image_uint8"].shape[:2] / shown


@pytest.mark.parametrize("size", SIZES)
def test_letterbox_equals_automl(size):
    golden = np.load(GOLDEN)
    image = golden["image_uint8"]
    out, scale = preprocess(
        tf.constant(image), config(image_size=f"{SIZES[size][1]}x{SIZES[size][0]}")
    )
    np.testing.assert_allclose(out, golden[f"out{size}_eval_image"], atol=2e-5)
    np.testing.assert_allclose(scale, whole_pixel_scale(golden, f"out{size}_eval"), rtol=1e-6)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", ["eval", "train_scale_0.5"])
def test_training_scale_and_boxes_equal_automl(size, mode):
    golden = np.load(GOLDEN)
    image, classes = golden["image_uint8"], golden["classes"][:, 0].astype(np.int32)
    pixels = golden["boxes_yxyx_normalised"] * np.tile(image.shape[:2], 2).astype(np.float32)
    factor = 1.0 if mode == "eval" else 0.5
    out, boxes, classes, _, scale = random_scale(
        geometry.Sample.uncut(tf.constant(image), pixels, classes), [0, 0],
        output_size=SIZES[size], scale_min=factor, scale_max=factor,
    )  # fmt: skip
    boxes = geometry.clip(boxes, tf.constant(SIZES[size]) - 1)
    finished = finish(out, config(image_size=f"{SIZES[size][1]}x{SIZES[size][0]}"))
    np.testing.assert_allclose(finished, golden[f"out{size}_{mode}_image"], atol=2e-5)
    np.testing.assert_allclose(boxes, golden[f"out{size}_{mode}_boxes"], atol=1e-4)
    np.testing.assert_array_equal(classes, golden[f"out{size}_{mode}_classes"][:, 0])
    np.testing.assert_allclose(scale, whole_pixel_scale(golden, f"out{size}_{mode}"), rtol=1e-6)


# --- batches ---


def test_shapes_types_and_padding(record):
    batch = next(pipeline(record, training=False, batch_size=4).batches())
    assert batch["images"].shape == (4, 64, 96, 3) and batch["images"].dtype == np.float32
    assert batch["boxes"].shape == (4, 6, 4) and batch["boxes"].dtype == np.float32
    assert batch["classes"].dtype == np.int32
    np.testing.assert_array_equal(batch["classes"][0], [1, 3, IGNORE, 0, 0, 0])
    np.testing.assert_array_equal(batch["classes"][1], [1, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(batch["boxes"][1], [[8, 8, 24, 40]] + 5 * [[0, 0, 0, 0]], atol=1e-4)
    assert batch["images"][:, 32:].max() == 0 == batch["images"][:, 32:].min()
    np.testing.assert_allclose(batch["image_scale"], 1.25)
    np.testing.assert_array_equal(batch["original_hw"], 4 * [[40, 120]])


def test_evaluation_shows_every_record_once_and_marks_the_filling(record):
    batches = list(pipeline(record, training=False, batch_size=4).batches())
    valid = np.concatenate([batch["valid"] for batch in batches])
    ids = np.concatenate([batch["source_id"] for batch in batches])
    assert [i.decode() for i in ids[valid]] == [f"{i:06d}" for i in range(7)]
    assert len(batches) == 2 and not valid[7]
    assert not batches[1]["classes"][3].any() and not batches[1]["boxes"][3].any()


def test_an_epoch_is_a_permutation_and_the_next_one_another(record):
    loader = pipeline(record, batch_size=1)
    first, again, second = (
        [batch["source_id"][0] for batch in loader.batches(epoch=epoch)] for epoch in (0, 0, 1)
    )
    assert sorted(first) == sorted(second) == [f"{i:06d}".encode() for i in range(7)]
    assert first == again != second
    assert len(loader) == 7


def test_training_drops_the_remainder(record):
    loader = pipeline(record, batch_size=3)
    assert len(loader) == 2 == len(list(loader.batches()))
    assert int(loader.dataset().cardinality()) == 2


@pytest.fixture(scope="module")
def augmented(record):
    """A pipeline with every op; its graph takes seconds to trace."""
    return pipeline(record, **EVERYTHING)


def test_skipping_batches_continues_exactly(augmented):
    whole = list(augmented.batches(epoch=3))
    assert_same(whole[2:], list(augmented.batches(epoch=3, skip_batches=2)))
    assert list(augmented.batches(epoch=3, skip_batches=len(whole))) == []


def test_a_new_pipeline_gives_the_same_batches(record, augmented):
    assert_same(
        list(augmented.batches(epoch=2)), list(pipeline(record, **EVERYTHING).batches(epoch=2))
    )


def test_processes_share_a_batch_and_no_sample_depends_on_it(record, augmented):
    """Each makes some rows of every batch, also after a resume, with what chance gave them."""
    whole = list(augmented.batches(epoch=2, skip_batches=1))
    for rows in ([1], [1, 0]):
        part = pipeline(record, rows=np.array(rows), **EVERYTHING)
        expected = [{key: values[rows] for key, values in batch.items()} for batch in whole]
        assert_same(expected, list(part.batches(epoch=2, skip_batches=1)))


def test_another_seed_gives_other_batches(record):
    first, other = (list(pipeline(record, seed=seed, jitter_min=0.5).batches()) for seed in (1, 2))
    assert any((a["images"] != b["images"]).any() for a, b in zip(first, other, strict=True))


def test_skipped_records_are_not_read(record, tmp_path):
    copy = tmp_path / "copy.record"
    loader = pipeline(record, batch_size=1)
    first = next(loader.batches())["source_id"][0]
    copy.write_bytes(record.read_bytes().replace(first, b"broken"))  # its checksum no longer fits
    Manifest.read(record).write(copy)
    assert len(list(pipeline(copy, batch_size=1).batches(skip_batches=1))) == 6
    with pytest.raises(UserError, match="copy.record.*inspect_tfrecord.py"):
        list(pipeline(copy, batch_size=1).batches())


def test_several_files_are_one_set(record, tmp_path):
    second = write_record(tmp_path / "b.record", {"x": [], "y": [annotation((0, 0, 120, 40))]})
    loader = pipeline([record, second], training=False, batch_size=9)
    (batch,) = loader.batches()
    assert [i.decode() for i in batch["source_id"][-2:]] == ["x", "y"]
    assert not batch["classes"][7].any()
    np.testing.assert_allclose(batch["boxes"][8, 0], [0, 0, 32, 96])
    assert loader.index.where(8) == f"{second} record 1"


def test_ignore_regions_can_be_turned_off(record):
    (batch,) = pipeline(record, training=False, batch_size=7, ignore_regions=False).batches()
    assert batch["classes"].min() == 0


def test_objects_come_before_ignore_regions_when_rows_are_few(record):
    (batch,) = pipeline(record, training=False, batch_size=7, max_instances=2).batches()
    np.testing.assert_array_equal(batch["classes"][0], [1, 3])


@pytest.mark.parametrize("epoch, mixed", [(0, True), (8, False), (9, False)])
def test_mosaic_closes_for_the_last_epochs(record, epoch, mixed):
    loader = pipeline(record, batch_size=7, mosaic_prob=1.0, mosaic_close_epochs=2, num_epochs=10)
    (batch,) = loader.batches(epoch=epoch)
    assert (mixed_share(batch) > 0) == mixed


def mixed_share(batch) -> float:
    """The share of images that show more than one frame."""
    shades = [len(np.unique(image[:32, :, 0].round(3))) for image in batch["images"]]
    return float(np.mean(np.array(shades) > 1))


def test_mosaic_closes_by_images_not_by_passes(record):
    """Seven records, 14 images an epoch: a pass is half an epoch."""
    loader = pipeline(record, batch_size=7, mosaic_prob=1.0, mosaic_close_epochs=1, num_epochs=2,
                      examples_per_epoch=14)  # fmt: skip
    shares = [mixed_share(next(loader.batches(epoch=epoch))) for epoch in range(3)]
    assert min(shares[:2]) > 0 == shares[2]


def test_repeats_make_the_epoch_longer(record):
    loader = pipeline(record, batch_size=1, repeat_threshold=1.0)
    ids = [batch["source_id"][0] for batch in loader.batches()]
    expected = 4 + 3 * np.sqrt(7 / 3)
    assert len(loader) == len(ids) == int(expected)
    assert set(ids) == {f"{i:06d}".encode() for i in range(7)}


def test_only_the_named_classes_decide_how_often_a_frame_comes(tmp_path, said):
    """The Tram is the rarest here; two of eight frames have a Cyclist."""
    car, rare = annotation((10, 10, 50, 30)), annotation((60, 5, 80, 30), 2, "Tram")
    rider = annotation((60, 5, 80, 30), 3, "Cyclist")
    frames = {f"{i:06d}": [car, *([rare] if i == 0 else [rider] if i < 3 else [])]
              for i in range(8)}  # fmt: skip
    path = write_record(tmp_path / "rare.record", frames)
    loader = pipeline(path, batch_size=1, repeat_threshold=1.0)
    assert len(loader) == 6 + 2 * 2
    assert said == [
        "warning: the training records hold no Pedestrian to learn: left out of repeat_classes"
    ]
    tram = pipeline(path, batch_size=1, repeat_threshold=1.0, repeat_classes=["tram"])
    assert len(tram) == int(7 + np.sqrt(8))


def test_the_recipe_takes_a_label_map_of_one_class(tmp_path, root, said):
    """Cyclists whom the label map does not name are in the record, as ignore regions."""
    car, rider = annotation((10, 10, 50, 30)), annotation((60, 5, 80, 30), 0, "Cyclist")
    path = write_record(tmp_path / "car.record", {"000000": [car], "000001": [car, rider]})
    recipe = load_yaml(root / "configs" / "kitti_d0.yaml") | {"image_size": "96x64"}
    (batch,) = pipeline(path, num_classes=1, **recipe).batches()
    assert set(batch["source_id"]) == {b"000000", b"000001"}
    assert said == [
        "warning: the training records hold no Pedestrian and no Cyclist to learn: left out of "
        "repeat_classes and copy_paste_classes",
        "warning: copy-paste is off: of Pedestrian, Cyclist these records hold no object that is "
        "whole and uncovered",
    ]


@pytest.mark.parametrize("epochs, told", [(3, True), (4, True), (5, False)])
def test_a_mosaic_that_never_comes_is_told(record, epochs, told, said):
    pipeline(record, mosaic_prob=0.5, mosaic_close_epochs=4, num_epochs=epochs)
    assert [line.startswith("warning: mosaic_prob=0.5 does nothing") for line in said] == told * [
        True
    ]


def test_crowd_boxes_with_a_class_may_be_objects(tmp_path):
    """As a COCO record has them; DontCare has no class and stays a region."""
    boxes = [annotation((10, 10, 50, 30)), annotation((90, 5, 110, 20), 0, "DontCare")]
    example = tf.train.Example.FromString(
        make_example(
            tf.io.encode_png(np.zeros((40, 120, 3), np.uint8)).numpy(),
            ImageHeader("png", 40, 120), "crowd", boxes,
        )
    )  # fmt: skip
    example.features.feature["image/object/is_crowd"].int64_list.value[:] = [1, 1]
    with tf.io.TFRecordWriter(str(tmp_path / "crowd.record")) as writer:
        writer.write(example.SerializeToString())

    def classes(**values):
        (batch,) = pipeline(tmp_path / "crowd.record", batch_size=1, **values).batches()
        return batch["classes"][0].tolist()

    assert classes() == [IGNORE, IGNORE, 0, 0, 0, 0]
    assert classes(skip_crowd_during_training=False) == [1, IGNORE, 0, 0, 0, 0]
    assert classes(skip_crowd_during_training=False, training=False) == [IGNORE] * 2 + 4 * [0]


# --- errors ---


def test_an_id_beyond_the_label_map_is_an_error(record):
    with pytest.raises(UserError, match=r"class id is not in 1\.\.2.*000000"):
        list(pipeline(record, training=False, num_classes=2).batches())


def test_a_damaged_image_is_one_line(tmp_path):
    with tf.io.TFRecordWriter(str(tmp_path / "bad.record")) as writer:
        writer.write(make_example(b"\x89PNG no", ImageHeader("png", 4, 4), "000000", []))
    with pytest.raises(UserError, match="bad.record.*inspect_tfrecord.py") as caught:
        list(pipeline(tmp_path / "bad.record", training=False).batches())
    assert "\n" not in str(caught.value)


def test_copy_paste_without_donors_says_so(record, said):
    pipeline(record, copy_paste_prob=0.5, copy_paste_classes=["Tram"])
    assert "hold no Tram to learn: left out of copy_paste_classes" in said[0]
    assert said[1].startswith("warning: copy-paste is off: of Tram") and len(said) == 2


def test_all_ops_together_keep_boxes_inside(augmented):
    for batch in itertools.chain.from_iterable(augmented.batches(epoch=e) for e in range(2)):
        boxes, real = batch["boxes"], batch["classes"] != 0
        assert np.isfinite(batch["images"]).all()
        assert (boxes >= 0).all() and (boxes <= [64, 96, 64, 96]).all()
        assert (boxes[real][:, 2:] > boxes[real][:, :2]).all()
        assert not boxes[~real].any()


# --- what goes to the device ---


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_what_the_network_would_make_of_them(record, dtype):
    whole, half = (
        next(pipeline(record, training=False, image_dtype=each).batches())["images"]
        for each in ("float32", dtype)
    )
    assert half.dtype.name == dtype
    cast = tf.cast(tf.cast(whole, dtype), tf.float32)
    np.testing.assert_array_equal(half.astype(np.float32), cast)


def test_bytes_are_normalised_on_the_device_to_half_a_grey_level(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (40, 120, 3), np.uint8)
    header = ImageHeader("png", 40, 120)
    with tf.io.TFRecordWriter(str(tmp_path / "noise.record")) as writer:
        writer.write(make_example(tf.io.encode_png(image).numpy(), header, "noise", []))
    made = {
        dtype: next(pipeline(tmp_path / "noise.record", batch_size=1, image_dtype=dtype).batches())
        for dtype in ("float32", "uint8")
    }
    expected, found = made["float32"]["images"], made["uint8"]
    assert found["images"].dtype == np.uint8 and found["shown"].tolist() == [[32, 96]]
    normalised = np.asarray(normalise(found["images"], found["shown"], config()))
    half = 0.5001 / np.float32(config().stddev_rgb)
    assert (np.abs(normalised - expected) <= half).all()
    assert not normalised[:, 32:].any()  # black pixels are not 0, what lies beside the picture is
    shown, before = (to_pixels(one["images"][0], config()) for one in (found, made["float32"]))
    assert np.abs(shown[:32].astype(int) - before[:32]).max() <= 1  # a tie may go the other way


def test_bytes_that_were_not_resized_lose_nothing(record):
    made = [
        next(pipeline(record, image_size="120x40", image_dtype=dtype).batches())
        for dtype in ("float32", "uint8")
    ]
    normalised = normalise(made[1]["images"], made[1]["shown"], config())
    np.testing.assert_allclose(normalised, made[0]["images"], atol=1e-6)
