"""Plots that any set can be drawn with: whole numbers, the page's own colours, bars for nothing."""

import re
import xml.etree.ElementTree
from pathlib import Path

import numpy as np
import pytest

from efficientdet.dataset.example import Annotation
from efficientdet.dataset.label_map import LabelMap
from efficientdet.inspection import figures
from efficientdet.inspection.checks import InspectedSet

IDS = {"Car": 1, "Pedestrian": 2}
MAP = LabelMap((("Car",), ("Pedestrian",)))


def a_set(name: str, *images: int, **style) -> InspectedSet:
    """Images with so many cars."""
    one = InspectedSet(Path(name), [], None)
    for index, number in enumerate(images):
        boxes = [(10 + 3 * i, 10, 60 + 5 * i, 40 + i) for i in range(number)]
        one.statistics.add(str(index), 60, 200, [Annotation(b, 1, "Car", **style) for b in boxes])
    return one


def labels(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


@pytest.fixture(scope="module")
def drawn() -> dict[str, list[str]]:
    sets = [a_set("train.record", 2, 1, 0), a_set("val.record", 1)]
    plots = figures.plots(sets, IDS, MAP)
    assert all(
        [name for name, _ in one.pictures] == ["train.record", "val.record"] for one in plots
    )
    return {one.title: [svg for _, svg in one.pictures] for one in plots}


def test_the_axes_of_few_images_count_in_whole_numbers(drawn):
    for title in ("Objects on an image", "Occlusion", "Width", "DontCare"):
        ticks = [text for svg in drawn[title] for text in labels(svg)]
        counts = [text for text in ticks if re.fullmatch(r"[\d.,]+", text)]
        assert counts and not any("." in text for text in counts), (title, counts)
    assert "objects on an image" in labels(drawn["Objects on an image"][0])
    assert all("(log)" in " ".join(labels(svg)) for svg in drawn["Width"] + drawn["DontCare"])


def test_a_class_without_an_object_has_its_row(drawn):
    for svg in drawn["Objects by class"]:
        assert {"Car", "Pedestrian", "none"} <= {*labels(svg)}


def test_pictures_are_sound_and_take_the_colours_of_the_page(drawn):
    for svg in (svg for both in drawn.values() for svg in both):
        xml.etree.ElementTree.fromstring(svg)
        assert "currentColor" in svg and not re.search("#010203|#040506|<style|metadata", svg)
        assert 'viewBox="' in svg and not re.search(r'<svg[^>]* width="', svg)


def test_thousands_and_ignored_objects():
    sets = [a_set("a", 60), a_set("b", 3, is_crowd=True)]
    plots = {one.title: one.pictures for one in figures.plots(sets, IDS, MAP)}
    both = [labels(svg) for _, svg in plots["Objects by class"]]
    assert "60" in both[0] and "0 + 3 ignored" in both[1]
    assert "1,000" in labels(plots["Area"][0][1])
    assert figures.plots([], IDS, MAP) == []


@pytest.mark.parametrize("values", [[40.0], [1e-9, 1e-9], [3.0, 7e5], [2e12]])
def test_edges_begin_and_end_with_a_round_number(values):
    edges = figures._log_edges(np.array(values))
    assert len(edges) == 41 and (np.diff(edges) > 0).all()
    assert all(f"{edge:.0e}"[0] in "125" for edge in edges[[0, -1]])
