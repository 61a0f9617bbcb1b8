"""What the inspector warns of: classes without objects, few objects, fits that rest on few."""

import dataclasses
from pathlib import Path

import pytest

from efficientdet.dataset.example import Annotation
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.manifest import Manifest
from efficientdet.inspection.anchor_report import FIT_OBJECTS, AnchorRow, best_row
from efficientdet.inspection.checks import InspectedSet, Report
from efficientdet.inspection.coverage import Coverage
from efficientdet.inspection.shortages import (
    FEW,
    FEW_OBJECTS,
    LOOSE_FIT,
    NOT_JUDGED,
    NOT_LEARNT,
    class_warnings,
    fit_warnings,
)
from efficientdet.wording import NBSP, counted, listed

THREE = LabelMap((("Car", "Van"), ("Pedestrian",), ("Cyclist",)))
IDS = {"Car": 1, "Van": 1, "Pedestrian": 2, "Cyclist": 3}


def a_set(name: str, subset: str = "", ignored: str = "", **numbers: int) -> InspectedSet:
    manifest = Manifest(1, THREE, 9, {}, subset=subset) if subset else None
    one = InspectedSet(Path(f"{name}.record"), [], manifest)
    objects = [
        Annotation((0, 0, 9, 9), IDS[text], text, is_crowd=text == ignored)
        for text, number in numbers.items()
        for _ in range(number)
    ]
    one.statistics.add("1", 40, 100, objects)
    return one


def warnings(*sets: InspectedSet, label_map: LabelMap | None = THREE) -> dict[str, list[str]]:
    report = Report(list(sets), label_map)
    for text, label in IDS.items():
        if any(text in one.statistics.objects.types for one in sets):
            report.class_texts[label].add(text)
    kinds: dict[str, list[str]] = {}
    for one in class_warnings(report):
        kinds.setdefault(one.kind, []).append(f"{one.where}: {one.what}".replace(NBSP, " "))
    return kinds


ENOUGH = {"Car": 40, "Pedestrian": 1500, "Cyclist": FEW_OBJECTS}


def test_full_sets_have_no_warning():
    assert not warnings(a_set("train", **ENOUGH), a_set("val", **ENOUGH))
    assert not warnings(a_set("train", Van=30, Pedestrian=30, Cyclist=30))  # Van is Car's id


@pytest.mark.parametrize("subset", ["", "validation"])
def test_a_class_that_validation_cannot_judge_is_named_with_its_number(subset):
    found = warnings(a_set("train", **ENOUGH), a_set("val", subset, Car=30))
    assert list(found) == [NOT_JUDGED]
    (line,) = found[NOT_JUDGED]
    assert line.startswith("val.record: without Pedestrian (1,500) and Cyclist (20) of train")
    assert "--split_file" in line


def test_an_ignored_object_is_none_to_learn_from():
    found = warnings(a_set("train", **ENOUGH), a_set("val", ignored="Cyclist", **ENOUGH))
    assert "Cyclist" in found[NOT_JUDGED][0]


def test_a_class_of_the_label_map_that_training_lacks():
    found = warnings(a_set("train", Van=30, Cyclist=30), a_set("val", **ENOUGH))
    assert list(found) == [NOT_LEARNT]
    (line,) = found[NOT_LEARNT]
    assert line.startswith("train.record: Pedestrian. val.record holds 1,500 of them, which will")
    assert line.endswith("--classes=Car,Van,Cyclist")
    found = warnings(a_set("train", Car=30), a_set("val", Cyclist=30), label_map=None)
    assert "Cyclist" in found[NOT_LEARNT][0] and "--classes" not in found[NOT_LEARNT][0]


def test_few_objects_mean_something_else_in_each_set():
    few = ENOUGH | {"Cyclist": FEW_OBJECTS - 1}
    train, val = warnings(a_set("train", **few), a_set("val", **few))[FEW]
    assert train.startswith("train.record: Cyclist (19). Hardly to be learnt")
    assert val.startswith("val.record: Cyclist (19). Each single object moves")


def test_the_set_to_train_on_is_known_whatever_the_order():
    test, val, train = (
        a_set("test", "testing"),
        a_set("val", "validation", Car=30),
        a_set("train", "training", **ENOUGH),
    )
    report = Report([test, val, train], THREE)
    assert report.training is train
    assert list(warnings(test, val, train)) == [NOT_JUDGED]
    assert Report([val], THREE).training is None
    assert not warnings(val), "alone it is held against nothing"
    assert not warnings(test) and not warnings()


def test_few_objects_recommend_no_fit():
    def rows(number: int) -> list[AnchorRow]:
        stock = AnchorRow(
            "512x512", "a", False, Coverage({}, {}, {}, {"all": 0.4}, 0.0), 9, 9, number
        )
        return [
            stock,
            dataclasses.replace(stock, fitted=True, coverage=Coverage({}, {}, {}, {"all": 0}, 0)),
        ]

    few, enough = rows(56), rows(FIT_OBJECTS)
    assert not best_row(few).fitted and best_row(enough).fitted
    (warning,) = fit_warnings(few, "train.record")
    assert warning.kind == LOOSE_FIT and "56 objects" in warning.what
    assert not list(fit_warnings(enough, "x")) and not list(fit_warnings(few[:1], "x"))


def test_numbers_and_lists_in_words():
    assert [counted(n, "image") for n in (0, 1, 1500)] == ["0 images", "1 image", "1,500 images"]
    assert [listed(list("abc")[:n]) for n in range(4)] == ["", "a", "a and b", "a, b and c"]
    assert listed("abcdefgh").endswith("g and h") and listed("abcdefghi").endswith("g and 2 more")
