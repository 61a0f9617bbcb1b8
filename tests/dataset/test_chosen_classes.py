"""`--classes` defines the detector: its label map, what it ignores, and how it is judged."""

import pytest

from efficientdet.dataset.convert import convert, dry_run
from efficientdet.dataset.example import Record
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.manifest import Manifest
from efficientdet.dataset.options import Options
from efficientdet.dataset.selection import select_frames
from efficientdet.dataset.tfrecord import read_records
from efficientdet.errors import UsageError, UserError
from efficientdet.evaluation.evaluate import evaluate
from efficientdet.evaluation.frames import FrameDetections, box_array
from efficientdet.inference.truths import read_truths
from efficientdet.input.record_set import RecordSet

KITTI = LabelMap.kitti()
THREE = ("Car", "Pedestrian", "Cyclist")


def line(kind: str, left: int) -> str:
    return f"{kind} 0 0 0 {left} 10 {left + 18} 50 1.5 1.6 3.9 1 1.7 20 0"


@pytest.fixture
def street(make_kitti):
    """Two frames of every class; images are 200 x 60."""
    kinds = ("Car", "Van", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc", "DontCare")
    lines = [line(kind, 25 * index) for index, kind in enumerate(kinds)]
    return make_kitti({"000000": lines, "000001": lines[::-1]}, size=(200, 60))


def make(root, classes=THREE, label_map=KITTI, **how) -> Manifest:
    options = Options("all", classes=classes)
    return convert(select_frames(root, options), root / "x.record", label_map, options, **how)


def learnt(manifest: Manifest) -> dict[int, int]:
    """Id -> objects that training learns from."""
    counts = dict.fromkeys(manifest.label_map.names, 0)
    for name, count in manifest.class_counts.items():
        if label := manifest.label_map.id_of(name):
            counts[label] += count - manifest.ignored_counts.get(name, 0)
    return counts


def test_the_record_has_the_chosen_classes_and_ignores_the_others(street):
    manifest = make(street)
    assert manifest.label_map == LabelMap((("Car",), ("Pedestrian",), ("Cyclist",)))
    assert learnt(manifest) == {1: 2, 2: 2, 3: 2} and manifest.class_counts["Van"] == 2
    (_, data), _ = read_records(street / "x.record")
    record = Record.parse(data)
    assert record.labels == [1, 0, 2, 0, 3, 0, 0, 0]
    assert record.is_crowd == [0, 1, 0, 1, 0, 1, 1, 1] and record.texts[1] == "Van"


def test_a_perfect_detector_of_three_classes_scores_1(street):
    make(street)
    records = RecordSet.open(str(street / "x.record"))
    truths = read_truths(records.files, records.label_map)
    detections = []
    for truth in truths:
        found = [o for o in truth.objects if o.type in THREE]
        # And each Van as a Car of the highest score: forgiven, as a neighbour and as a crowd.
        found += [o for o in truth.objects if o.type == "Van"]
        ids = [1 if o.type == "Van" else THREE.index(o.type) + 1 for o in found]
        scores = [0.9 if o.type == "Van" else 0.8 for o in found]
        detections.append(FrameDetections(truth.source_id, box_array(found), scores, ids))
    result = evaluate(truths, detections, records.label_map)
    assert result.metrics["AP"] == pytest.approx(1.0)
    # KITTI: two objects a class, of which a perfect detector reaches (n - 1) / 40.
    for name in THREE:
        assert result.metrics[f"kitti/{name}_moderate_R40"] == pytest.approx(1 / 40)


def test_merged_ids_lose_what_is_not_chosen_and_ids_close_up(street):
    merged = LabelMap((("Tram",), ("Van", "Car"), ("Misc",), ("Person_sitting", "Pedestrian")))
    assert make(street, ("Car", "Pedestrian"), merged).label_map == LabelMap(
        (("Car",), ("Pedestrian",))
    )
    both = make(street, ("Van", "Car", "Misc"), merged, overwrite=True)
    assert both.label_map == LabelMap((("Car", "Van"), ("Misc",)))
    assert learnt(both) == {1: 4, 2: 2}


def test_a_class_that_the_label_map_lacks_is_refused(street):
    few = LabelMap((("Car",), ("Tram",)))
    options = Options("all", classes=THREE)
    named = "--classes names Pedestrian, Cyclist, but the label map has only 1: Car, 2: Tram"
    for run in (lambda: make(street, THREE, few), lambda: dry_run(None, few, options)):
        with pytest.raises(UsageError, match=named):
            run()
    assert not (street / "x.record").exists()


def test_the_record_of_other_classes_is_not_up_to_date(street):
    make(street, classes=None)
    with pytest.raises(UserError, match="--classes was None.*--overwrite replaces it"):
        make(street)


def test_a_record_from_before_says_that_its_figures_mislead(street, said):
    """It has the option and eight classes, seven of which nobody labelled."""
    manifest = make(street)
    manifest.label_map = KITTI
    manifest.write(street / "x.record")
    RecordSet.open(str(street / "x.record"))
    assert len(said) == 1 and "Van, Truck, Person_sitting, Tram, Misc" in said[0]
    with pytest.raises(UserError, match="its classes were 1: Car, 2: Van.*would be 1: Car, 2: Ped"):
        make(street)
