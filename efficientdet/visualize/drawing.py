"""Boxes on images, and images on sheets; Pillow only, no window."""

import colorsys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from efficientdet.atomic import atomic_path
from efficientdet.errors import UsageError

Colour = tuple[int, int, int]

# Bright on a grey street, and apart for colour-blind eyes (after Okabe and Ito, 2008).
_PALETTE: tuple[Colour, ...] = (
    (86, 180, 233),
    (255, 176, 0),
    (0, 200, 130),
    (240, 90, 40),
    (204, 121, 207),
    (240, 228, 66),
    (60, 110, 220),
    (190, 150, 120),
)
IGNORED: Colour = (170, 170, 170)
_PAPER: Colour = (250, 250, 250)
_INK: Colour = (30, 30, 30)


def class_colour(class_id: int) -> Colour:
    """The colour of a class id 1..K, the same in every picture; grey for ids below 1 (ignored)."""
    if class_id < 1:
        return IGNORED
    if class_id <= len(_PALETTE):
        return _PALETTE[class_id - 1]
    hue = class_id * 0.618034 % 1.0  # golden ratio: neighbours lie far apart
    return tuple(round(255 * channel) for channel in colorsys.hsv_to_rgb(hue, 0.75, 0.95))


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray | Sequence[Sequence[float]],
    labels: Sequence[str] | None = None,
    colours: Sequence[Colour] | Colour = _PALETTE[0],
    *,
    dashed: bool = False,
    line_width: int | None = None,
) -> np.ndarray:
    """A copy of `image` with boxes and their labels on it.

    Args:
        image: uint8 [H, W, 3].
        boxes: [N, 4], `left top right bottom` in pixels of `image`; they may reach outside.
        labels: N texts, each on a tag at its box; an empty text has no tag.
        colours: one for all, or N.
        dashed: for what is no detection: ground truth beside predictions, ignore regions.
        line_width: pixels; by default it grows with the image.

    Returns:
        uint8 [H, W, 3].
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    reach = 2 * max(image.shape[:2])  # a broken box may lie a million pixels off
    boxes = np.clip(boxes, -reach, reach)
    labels = [""] * len(boxes) if labels is None else labels
    if len(colours) == 3 and not isinstance(colours[0], Sequence):
        colours = [colours] * len(boxes)
    width = line_width or max(1, round(max(image.shape[:2]) / 640))
    canvas = Image.fromarray(np.asarray(image, np.uint8)).convert("RGB")
    draw = ImageDraw.Draw(canvas)
    for box, colour in zip(boxes, colours, strict=True):
        _rectangle(draw, box, colour, width, dashed)
    # Tags come last: no box crosses a text.
    for box, label, colour in zip(boxes, labels, colours, strict=True):
        if label:
            _tag(draw, box, label, colour, canvas.size)
    return np.asarray(canvas)


def sheet(
    images: Sequence[np.ndarray],
    columns: int = 1,
    captions: Sequence[str] | None = None,
    *,
    cell_width: int | None = None,
    gap: int = 8,
) -> np.ndarray:
    """Images in a grid, row by row, each with its caption below.

    Args:
        images: uint8 [h, w, 3], of any sizes.
        columns: images a row.
        captions: one for each image.
        cell_width: images are resized to this width, in pixels; by default the widest one's.
        gap: pixels between cells and around the sheet.

    Returns:
        uint8 [H, W, 3] on a light ground.
    """
    cell_width = cell_width or max(image.shape[1] for image in images)
    cells = [_cell(image, cell_width) for image in images]
    font = _font(max(11, cell_width // 45))
    line = 0 if captions is None else int(font.size * 1.5)
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    heights = [max(cell.height for cell in row) + line for row in rows]
    columns = min(columns, len(cells))
    size = (columns * (cell_width + gap) + gap, sum(heights) + gap * (len(rows) + 1))
    canvas = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(canvas)
    top = gap
    for number, (row, height) in enumerate(zip(rows, heights, strict=True)):
        for column, cell in enumerate(row):
            left = gap + column * (cell_width + gap)
            canvas.paste(cell, (left, top))
            if captions is not None:
                text = captions[number * columns + column]
                draw.text((left, top + cell.height + line // 8), text, _INK, font)
        top += height + gap
    return np.asarray(canvas)


def save_image(image: np.ndarray, path: str | Path) -> None:
    """Writes a uint8 [H, W, 3] image as the format that the name's ending says (.png, .jpg).

    Raises:
        UsageError: an ending that stands for no image format.
    """
    path = Path(path)
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind is None:
        raise UsageError(f"{path}: expected a picture's name, which ends in .png or .jpg")
    with atomic_path(path) as temporary:
        Image.fromarray(image).save(temporary, format=kind)


def _rectangle(
    draw: ImageDraw.ImageDraw, box: np.ndarray, colour: Colour, width: int, dashed: bool
) -> None:
    left, top, right, bottom = box
    if not dashed:
        draw.rectangle((left, top, max(left, right), max(top, bottom)), outline=colour, width=width)
        return
    corners = ((left, top), (right, top), (right, bottom), (left, bottom), (left, top))
    for start, end in zip(corners[:-1], corners[1:], strict=True):
        _dashes(draw, np.asarray(start), np.asarray(end), colour, width)


def _dashes(
    draw: ImageDraw.ImageDraw, start: np.ndarray, end: np.ndarray, colour: Colour, width: int
) -> None:
    length = float(np.hypot(*(end - start)))
    dash = 4.0 * width
    for begin in np.arange(0.0, length, 2 * dash):
        stop = min(begin + dash, length)
        points = [tuple(start + (end - start) * (at / length)) for at in (begin, stop)]
        draw.line(points, colour, width)


def _tag(
    draw: ImageDraw.ImageDraw, box: np.ndarray, text: str, colour: Colour, size: tuple[int, int]
) -> None:
    """A filled label above the box; inside where the image ends."""
    font = _font(max(10, round(max(size) / 95)))
    width, height = draw.textlength(text, font) + 4, font.size * 1.25
    left = float(np.clip(box[0], 0, max(0, size[0] - width)))
    top = box[1] - height if box[1] >= height else max(0.0, box[1])
    draw.rectangle((left, top, left + width, top + height), colour)
    brightness = np.dot(colour, (0.299, 0.587, 0.114))
    draw.text((left + 2, top), text, _INK if brightness > 110 else _PAPER, font)


def _cell(image: np.ndarray, width: int) -> Image.Image:
    cell = Image.fromarray(np.asarray(image, np.uint8)).convert("RGB")
    if cell.width == width:
        return cell
    return cell.resize((width, max(1, round(cell.height * width / cell.width))))


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)
