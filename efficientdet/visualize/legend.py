"""What the boxes of a picture mean, in a strip above it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from efficientdet.visualize.drawing import INK, PAPER, Colour, outline
from efficientdet.visualize.fonts import fitted


@dataclass(frozen=True)
class Key:
    """One kind of box and its name; `line_width` in pixels."""

    name: str
    colour: Colour
    dashed: bool = False
    line_width: int = 2


def add_legend(picture: np.ndarray, keys: Sequence[Key]) -> np.ndarray:
    """`picture` uint8 [H, W, 3] with a strip above it that draws and names each of `keys`.

    The keys stand in as many lines as they need. A picture narrower than a key gets a margin at its
    right; its pixels keep their columns.
    """
    font, names = fitted([key.name for key in keys], int(np.clip(picture.shape[1] / 90, 12, 26)))
    line, gap = font.size * 2.0, font.size
    strip = Image.new("RGB", (1, 1))
    measure = ImageDraw.Draw(strip).textlength
    widest = max((3.5 * font.size + measure(name, font) + 2 * gap for name in names), default=0)
    if (margin := int(np.ceil(widest)) - picture.shape[1]) > 0:
        picture = np.pad(picture, ((0, 0), (0, margin), (0, 0)), constant_values=PAPER[0])
    width = picture.shape[1]
    places, left, top = [], gap, gap / 2
    for name in names:
        needed = 3.5 * font.size + measure(name, font) + 1.5 * gap
        if left > gap and left + needed > width:
            left, top = gap, top + line
        places.append((left, top))
        left += needed
    strip = Image.new("RGB", (width, round(top + line + gap / 2)), PAPER)
    draw = ImageDraw.Draw(strip)
    for key, name, (left, top) in zip(keys, names, places, strict=True):
        ground = (left, top, left + 3 * font.size, top + 1.5 * font.size)
        draw.rectangle(ground, (110, 114, 118))  # grey as a street: the colours were made for it
        box = np.add(ground, (4, 4, -4, -4))
        outline(draw, box, key.colour, key.line_width, key.dashed)
        draw.text((ground[2] + gap / 2, top + 0.1 * font.size), name, INK, font)
    return np.concatenate([np.asarray(strip), picture])
