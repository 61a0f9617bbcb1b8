"""Sheets of sample pictures of a data set: whole images, each class, and the hardest objects."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from efficientdet.dataset.example import Record
from efficientdet.dataset.image import ImageError, decode
from efficientdet.dataset.statistics import Objects, in_kitti_order
from efficientdet.inspection.checks import InspectedSet
from efficientdet.inspection.near_duplicates import NearDuplicates
from efficientdet.visualize.drawing import class_colour, draw_boxes, sheet
from efficientdet.visualize.html import image_uri

_WIDTH = 700  # pixels of a whole image on a sheet of two columns
_CROP, _CROPS = 220, 12  # pixels of a crop's side; crops on a sheet
_OUTSIDE = (225, 227, 230)  # where a crop reaches over the image's edge
_CONTEXT = 1.8  # a crop's side over its object's longer side
_MAX_CLASSES = 20


@dataclass(frozen=True)
class Sheet:
    """One picture of the report."""

    title: str
    note: str
    picture: str  # data: URI


def sheets(one: InspectedSet, class_ids: Mapping[str, int]) -> list[Sheet]:
    """Samples and the most crowded images, crops of each class, and the smallest objects."""
    objects, count = one.statistics.objects, len(one.places)
    album = _Album(one, objects, class_ids)
    spread = np.linspace(0, count - 1, min(6, count)).astype(int)
    crowded = np.argsort(one.statistics.num_objects)[::-1][:4]
    result = [
        Sheet("Samples", "Dashed and grey: ignored in training.", album.images(spread)),
        Sheet("Most crowded", "The images with most objects.", album.images(crowded)),
    ]
    frequent = Counter(objects.types.tolist()).most_common(_MAX_CLASSES)
    for name in in_kitti_order(dict(frequent)):
        members = np.flatnonzero(objects.types == name)
        by_height = members[np.argsort(objects.heights[members])]
        chosen = by_height[np.linspace(0, len(members) - 1, min(_CROPS, len(members))).astype(int)]
        note = "From the lowest to the highest, evenly spaced; the number is the height in pixels."
        result.append(Sheet(name, note, album.crops(chosen)))
    if smallest := np.argsort(objects.widths * objects.heights)[:_CROPS].tolist():
        note = "The objects of least area, magnified; the number is the height in pixels."
        result.append(Sheet("Smallest", note, album.crops(smallest)))
    return result


def pairs(alike: NearDuplicates, class_ids: Mapping[str, int]) -> str:
    """Frames that look alike, those of the set to train on to the right; empty without any."""
    sides = [(alike.second, "second"), (alike.first, "first")]
    albums = {side: _Album(one, one.statistics.objects, class_ids) for one, side in sides}
    pictures, captions = [], []
    for pair in alike.examples():
        for one, side in sides:
            index = getattr(pair, side)
            pictures.append(albums[side].drawn(index))
            bits = f", {pair.bits} bits apart" if one is alike.first else ""
            captions.append(f"{one.path.name}: {one.statistics.source_ids[index]}{bits}")
    return image_uri(sheet(pictures, 2, captions)) if pictures else ""


class _Album:
    """Reads single images of a set again, and draws their boxes."""

    def __init__(self, one: InspectedSet, objects: Objects, class_ids: Mapping[str, int]):
        self._one, self._objects, self._class_ids = one, objects, class_ids

    def images(self, indices: Sequence[int]) -> str:
        """Whole images with all boxes, as a `data:` URI."""
        pictures = [self.drawn(int(index)) for index in indices]
        captions = [self._one.statistics.source_ids[index] for index in indices]
        return image_uri(sheet(pictures, 2, captions))

    def crops(self, indices: Sequence[int]) -> str:
        """Single objects with what is around them, as a `data:` URI."""
        pictures = [self._crop(int(index)) for index in indices]
        captions = [
            f"{self._one.statistics.source_ids[self._objects.image[index]]}: "
            f"{self._objects.heights[index]:.0f} px"
            for index in indices
        ]
        return image_uri(sheet(pictures, 6, captions))

    def drawn(self, index: int) -> np.ndarray:
        """One whole image with all boxes, uint8 [H, W, 3]."""
        record = Record.parse(self._one.places[index].read())
        picture = Image.fromarray(_pixels(record))
        size = (_WIDTH, max(1, round(picture.height * _WIDTH / picture.width)))
        pixels = np.asarray(picture.resize(size))  # before drawing: lines keep their width
        for row, box in enumerate(record.boxes * np.tile(size, 2)):
            ignored = bool(record.is_crowd[row])
            colour = class_colour(0 if ignored else record.labels[row])
            pixels = draw_boxes(pixels, [box], None, colour, dashed=ignored, line_width=2)
        return pixels

    def _crop(self, index: int) -> np.ndarray:
        record = Record.parse(self._one.places[self._objects.image[index]].read())
        left, top, right, bottom = self._objects.boxes[index]
        side = max(_CONTEXT * max(right - left, bottom - top), 24)
        corner = np.array([(left + right - side) / 2, (top + bottom - side) / 2])
        picture = Image.fromarray(_pixels(record)).transform(
            (_CROP, _CROP),
            Image.Transform.EXTENT,
            (*corner, *(corner + side)),
            Image.Resampling.BICUBIC,
            fillcolor=_OUTSIDE,
        )
        box = (self._objects.boxes[index] - np.tile(corner, 2)) * _CROP / side
        name = str(self._objects.types[index])
        colour = class_colour(self._class_ids.get(name, 0))
        return draw_boxes(np.asarray(picture), [box], None, colour)


def _pixels(record: Record) -> np.ndarray:
    """The image; a grey one where it does not decode, which the checks have told."""
    try:
        return decode(record.encoded)
    except ImageError:
        return np.full((max(record.height, 1), max(record.width, 1), 3), 128, np.uint8)
