"""Boxes on images, and images on sheets; Pillow only, no window."""

import colorsys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from efficientdet.atomic import atomic_path
from efficientdet.errors import UsageError
from efficientdet.visualize import tags
from efficientdet.visualize.fonts import fitted

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
WHITE: Colour = (255, 255, 255)  # no class has it
FOUND: Colour = (0, 200, 130)
FALSE: Colour = (255, 176, 0)
MISSED: Colour = (255, 70, 70)
PAPER: Colour = (250, 250, 250)
INK: Colour = (30, 30, 30)


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
    dashed: bool | Sequence[bool] = False,
    line_width: int | Sequence[int] | None = None,
    avoid: np.ndarray | None = None,
) -> np.ndarray:
    """A copy of `image` with boxes and their labels on it; labels keep off each other and objects.

    Args:
        image: uint8 [H, W, 3].
        boxes: [N, 4], `left top right bottom` in pixels of `image`; they may reach outside.
        labels: N texts, each on a tag at its box; an empty text has no tag.
        colours: one for all, or N.
        dashed: for what is no detection: ground truth beside predictions, ignore regions; one for
            all, or N.
        line_width: pixels, one for all, or N; by default it grows with the image.
        avoid: [M, 4], further objects that labels should not hide.

    Returns:
        uint8 [H, W, 3].
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    reach = 2 * max(image.shape[:2])  # a broken box may lie a million pixels off
    boxes = np.clip(boxes, -reach, reach)
    labels = [""] * len(boxes) if labels is None else labels
    if len(colours) == 3 and not isinstance(colours[0], Sequence):
        colours = [colours] * len(boxes)
    width = max(1, round(max(image.shape[:2]) / 640)) if line_width is None else line_width
    widths, dashes = (np.broadcast_to(one, len(boxes)).tolist() for one in (width, dashed))
    canvas = Image.fromarray(np.asarray(image, np.uint8)).convert("RGB")
    draw = ImageDraw.Draw(canvas)
    for box, colour, width, is_dashed in zip(boxes, colours, widths, dashes, strict=True):
        outline(draw, box, colour, width, is_dashed)
    objects = boxes if avoid is None else np.concatenate([boxes, avoid])
    _tags(draw, boxes, labels, colours, canvas.size, objects)  # last: no box crosses a text
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
    font, texts = fitted(captions or (), max(11, cell_width // 45))
    line = 0 if captions is None else int(font.size * 1.5)
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    heights = [max(cell.height for cell in row) + line for row in rows]
    columns = min(columns, len(cells))
    size = (columns * (cell_width + gap) + gap, sum(heights) + gap * (len(rows) + 1))
    canvas = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(canvas)
    top = gap
    for number, (row, height) in enumerate(zip(rows, heights, strict=True)):
        for column, cell in enumerate(row):
            left = gap + column * (cell_width + gap)
            canvas.paste(cell, (left, top))
            if captions is not None:
                text = texts[number * columns + column]
                draw.text((left, top + cell.height + line // 8), text, INK, font)
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


def outline(
    draw: ImageDraw.ImageDraw, box: np.ndarray, colour: Colour, width: int, dashed: bool
) -> None:
    """One box, `left top right bottom`."""
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


def _tags(
    draw: ImageDraw.ImageDraw,
    boxes: np.ndarray,
    labels: Sequence[str],
    colours: Sequence[Colour],
    image: tuple[int, int],
    objects: np.ndarray,
) -> None:
    """Filled labels beside their boxes; a thin line leads to one that had to move away."""
    font, labels = fitted(labels, max(10, round(max(image) / 95)))
    shown = [i for i, label in enumerate(labels) if label]
    sizes = [(draw.textlength(labels[i], font) + 4, font.size * 1.25) for i in shown]
    places = tags.place(boxes[shown], np.array(sizes).reshape(-1, 2), image, objects)
    for i, (left, top, right, bottom) in zip(shown, places, strict=True):
        box, colour = boxes[i], colours[i]
        if bottom < box[1] - 1 or top > box[3] + 1:
            x = float(np.clip(box[[0, 2]].mean(), left, right))
            edge = (bottom, box[1]) if bottom < box[1] else (top, box[3])
            draw.line(
                [(x, edge[0]), (float(np.clip(x, box[0], max(box[[0, 2]]))), edge[1])], colour
            )
    for i, (left, top, right, bottom) in zip(shown, places, strict=True):
        draw.rectangle((left, top, right, bottom - 1), colours[i])
        brightness = np.dot(colours[i], (0.299, 0.587, 0.114))
        draw.text((left + 2, top), labels[i], INK if brightness > 110 else PAPER, font)


def _cell(image: np.ndarray, width: int) -> Image.Image:
    cell = Image.fromarray(np.asarray(image, np.uint8)).convert("RGB")
    if cell.width == width:
        return cell
    return cell.resize((width, max(1, round(cell.height * width / cell.width))))
