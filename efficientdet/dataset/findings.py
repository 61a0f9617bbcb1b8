"""What a set's labels and images are like as a whole: said once, not line by line."""

from collections import Counter
from collections.abc import Iterator

from efficientdet.dataset.frame_conversion import Converted
from efficientdet.dataset.kitti import CLASSES, DONT_CARE, FORMS
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.nominal_size import nominal_size
from efficientdet.dataset.options import Options
from efficientdet.errors import UserError
from efficientdet.wording import counted, listed, meant


class Findings:
    """Grows frame by frame; bad frames count, too."""

    def __init__(self, label_map: LabelMap, options: Options):
        self._label_map, self._options = label_map, options
        self._forms: Counter[int] = Counter()
        self._scores: list[float] = []
        self._unnamed: Counter[str] = Counter()
        self._first: dict[str, str] = {}
        self._made_png: Counter[str] = Counter()
        self._without_label = self._turned = 0
        self._sizes: list[tuple[int, int]] = []
        self._reaches: list[tuple[float, float]] = []

    def add(self, item: Converted) -> None:
        """Counts one frame."""
        frame, objects = item.frame, item.objects
        self._without_label += frame.label is None and self._options.subset != "testing"
        self._turned += item.turned
        self._made_png.update([item.was] if item.was else [])
        self._forms.update(found.columns for found in objects.values())
        scores = [found.score for found in objects.values() if found.score is not None]
        if scores:
            self._scores = [min(self._scores + scores), max(self._scores + scores)]
        for line, found in objects.items():
            name = found.type
            if self._label_map.id_of(name) is None and name not in (*CLASSES, DONT_CARE):
                self._unnamed[name] += 1
                self._first.setdefault(name, f"{frame.label}:{line}")
        boxes = [found.box for found in objects.values() if not found.is_dont_care]
        if item.header and boxes:
            self._sizes.append((item.header.width, item.header.height))
            self._reaches.append((max(box[2] for box in boxes), max(box[3] for box in boxes)))

    def require_named(self) -> None:
        """Raises UserError where labels have classes that nobody chose to leave out."""
        if not self._unnamed or self._options.classes:
            return
        names = self._label_map.names.values()
        parts = [
            f"{name} ({counted(count, 'object')}, first in {self._first[name]}{meant(name, names)})"
            for name, count in self._unnamed.most_common()
        ]
        raise UserError(
            f"the label map does not name {listed(parts)}; correct the labels, add the class to "
            "the map, or say by --classes what to detect: all else is ignored then"
        )

    def hints(self) -> Iterator[str]:
        """What lies behind many errors at once."""
        if self._without_label and not self._options.missing_is_empty:
            yield (
                f"{counted(self._without_label, 'image')} without a label file: if they show "
                "nothing to find, for which CVAT and datumaro write no file, say --missing_is_empty"
            )
        if what := self._nominal_size():
            yield what

    def notes(self) -> Iterator[str]:
        """What was assumed of the input."""
        for columns, count in sorted(self._forms.items()):
            if columns != 15:
                scores = f" ({self._score_range()})" if columns == 16 else ""
                yield (
                    f"{counted(count, 'label line')} of {columns} columns: read as "
                    f"{FORMS[columns]}{scores}"
                )
        for kind, count in self._made_png.items():
            yield f"{counted(count, f'{kind} image')}: stored as PNG, with the same pixels"
        if self._turned:
            images = counted(self._turned, "image")
            yield f"{images} that EXIF turns in viewers: boxes are taken as of the pixels as stored"
        if self._without_label:
            images = counted(self._without_label, "image")
            yield f"{images} without a label file: taken for images without an object"
        if what := self._nominal_size():
            yield f"warning: {what}"

    def _score_range(self) -> str:
        """`always 1`, as CVAT writes, or `0.03 to 0.98`, as a detector does."""
        ends = list(dict.fromkeys(f"{score:g}" for score in self._scores))
        return " to ".join(ends) if len(ends) > 1 else f"always {ends[0]}"

    def _nominal_size(self) -> str:
        return nominal_size(self._sizes, self._reaches)
