"""What stands on a made-up street: flat polygons, put up in perspective.

Camera coordinates as KITTI's: x right, y down, z ahead, in metres, the ground at CAMERA_HEIGHT. A
figure's own coordinates are ahead, left and up, in metres from its foot.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

IMAGE_SIZE = IMAGE_WIDTH, IMAGE_HEIGHT = 1242, 375
FOCAL, CENTRE = 721.5, np.array([609.6, 172.9])  # P2 of 2011_09_26, the usual calibration
CAMERA_HEIGHT = 1.65  # of the camera over the ground
AHEAD = -math.pi / 2  # rotation_y of what drives the way the camera looks

Colour = tuple[int, int, int]
Pair = tuple[float, float] | np.ndarray
_DARK, _RIM, _GLASS, _SHADOW = (30, 30, 32), (150, 152, 156), (40, 48, 58), (48, 48, 50)
_SKIN, _WHITE, _RED = (224, 186, 160), (250, 245, 215), (200, 25, 25)
_PAINTS: list[Colour] = [
    (38, 40, 44), (70, 74, 80), (150, 154, 158), (215, 216, 214), (238, 238, 234), (150, 30, 32),
    (30, 55, 120), (60, 95, 150), (45, 75, 60), (180, 165, 130), (215, 150, 30),
]  # fmt: skip
_CLOTHES: list[Colour] = [
    (40, 45, 60), (90, 92, 96), (180, 175, 165), (160, 40, 45), (50, 80, 140), (60, 110, 75),
    (205, 160, 60), (230, 230, 230), (120, 75, 110),
]  # fmt: skip
_SQUARE = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
_CIRCLE = np.array([(math.cos(a), math.sin(a)) for a in (np.arange(14) + 0.5) * math.pi / 7])


class Part(NamedTuple):
    """A polygon [N, 3], seen from where it runs counter-clockwise; or a rod between two points."""

    points: np.ndarray
    colour: Colour
    radius: float = 0.0  # of a rod, in metres


@dataclass(frozen=True)
class Figure:
    """Something on the ground: parts in the order of drawing, `size` as height, width, length.

    `rotation_y` is KITTI's: 0 along x, -pi/2 straight ahead. Scenery has no `type`.
    """

    parts: Sequence[Part]
    size: tuple[float, float, float] = (0.0, 0.0, 0.0)
    x: float = 0.0
    z: float = 0.0
    rotation_y: float = AHEAD
    type: str = ""

    def is_apart_from(self, other: "Figure") -> bool:
        """Whether circles around the two on the ground do not meet."""
        radii = 0.5 * (math.hypot(*self.size[1:]) + math.hypot(*other.size[1:]))
        return math.hypot(self.x - other.x, self.z - other.z) > radii

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Where points [N, 3] of the figure lie in the image, [N, 2]."""
        ahead, left, up = points.T
        cosine, sine = math.cos(self.rotation_y), math.sin(self.rotation_y)
        x, z = self.x + ahead * cosine + left * sine, self.z - ahead * sine + left * cosine
        return CENTRE + FOCAL * np.stack([x, CAMERA_HEIGHT - up], 1) / np.maximum(z, 0.3)[:, None]


@dataclass
class Canvas:
    """A picture, and for each pixel the number (to 255) of the figure that it shows (0: none)."""

    image: Image.Image
    owner: Image.Image = field(default_factory=lambda: Image.new("L", IMAGE_SIZE))

    def draw(self, figure: Figure, number: int) -> tuple[np.ndarray, int]:
        """Paints a figure over what is there.

        Returns:
            float64 [4], `left top right bottom` in pixels of all of it, also outside the image; and
            the number of pixels it has inside.
        """
        pen, owner = ImageDraw.Draw(self.image), ImageDraw.Draw(self.owner)
        _, side, end = np.multiply(figure.size, 0.55)
        shadow = figure.pixels(_rectangle(-end, end, -side, side, 0))
        pen.polygon(shadow.ravel().tolist(), _SHADOW)
        corners = figure.pixels(np.concatenate([part.points for part in figure.parts]))
        starts = np.cumsum([len(part.points) for part in figure.parts])[:-1]
        drawn = []
        for part, outline in zip(figure.parts, np.split(corners, starts), strict=True):
            if part.radius:
                outline = _around(*outline, max(0.5, part.radius * FOCAL / figure.z))
            elif not _faces_us(outline):
                continue
            pen.polygon(outline.ravel().tolist(), part.colour)
            owner.polygon(outline.ravel().tolist(), number)
            drawn.append(outline)
        drawn = np.concatenate(drawn)
        pixels = np.count_nonzero(np.asarray(self.owner) == number)
        return np.concatenate([drawn.min(0), drawn.max(0)]), pixels


def car(rng: np.random.Generator, x: float, z: float, rotation_y: float) -> Figure:
    """A painted body on wheels under a cabin with windows; red lights behind, white ones ahead."""
    height, width, length = rng.normal((1.53, 1.63, 3.88), (0.1, 0.07, 0.3))
    end, side, waist, paint = length / 2, width / 2, 0.62 * height, _one_of(rng, _PAINTS)
    rear = rng.uniform(-0.95, -0.65) * end  # of the cabin: hatchback or saloon
    body = _block((-end, end, -side, side, 0.2), (-end, end, -side, side, waist), paint)
    roof = (rear + 0.3, 0.1 * end, -0.8 * side, 0.8 * side, height)
    cabin = _block((rear, 0.5 * end, -0.97 * side, 0.97 * side, waist), roof, paint)
    parts = [*body, *cabin]
    wheel = np.array([0.33 / length, 0.33 / (waist - 0.2)])
    for wall, lights in ((0, _WHITE), (2, _RED)):
        parts += [_on(body[wall], (u, 0.65), (0.1, 0.15), lights) for u in (0.12, 0.88)]
        parts.append(_on(body[wall], (0.5, 0.3), (0.14, 0.1), _WHITE))
        parts.append(_on(cabin[wall], (0.5, 0.5), (0.44, 0.4), _GLASS))
    for wall, sign in itertools.product((1, 3), (-1, 1)):
        axle = (0.5 + 0.31 * sign, 0.17)
        parts.append(_on(body[wall], axle, wheel, _DARK, _CIRCLE))
        parts.append(_on(body[wall], axle, 0.55 * wheel, _RIM, _CIRCLE))
        parts.append(_on(cabin[wall], (0.5 + 0.22 * sign, 0.5), (0.2, 0.4), _GLASS))
    return Figure(parts, (height, width, length), x, z, rotation_y, "Car")


def pedestrian(rng: np.random.Generator, x: float, z: float, rotation_y: float) -> Figure:
    """Somebody walking."""
    height, stride = rng.normal(1.75, 0.1), rng.uniform(0.05, 0.4)
    knees = [(0.4 * stride, 0.1, 0.27 * height), (0.05 - 0.4 * stride, -0.1, 0.27 * height)]
    feet = [(stride, 0.1, 0.08), (-stride, -0.1, 0.08)]
    hands = [(-0.9 * stride, 0.28, 0.47 * height), (0.9 * stride, -0.28, 0.47 * height)]
    parts = _person(rng, (0, 0, 0.5 * height), (0, 0, height - 0.4), knees, feet, hands)
    return Figure(parts, (height, 0.6, 2 * stride + 0.25), x, z, rotation_y, "Pedestrian")


def cyclist(rng: np.random.Generator, x: float, z: float, rotation_y: float) -> Figure:
    """Somebody on a bicycle."""
    height, length = rng.normal((1.74, 1.76), 0.07)
    hub, crank, saddle, head = length / 2 - 0.34, (0, 0, 0.3), (-0.22, 0, 0.92), (0.36, 0, 0.82)
    hands = [(0.4, 0.26, 1.02), (0.4, -0.26, 1.02)]
    parts, paint = _rods(hands, _DARK, 0.03), _one_of(rng, _PAINTS)
    for end in (-hub, hub):
        wheel = [(end + 0.3 * u, 0, 0.34 + 0.3 * v) for u, v in (*_CIRCLE, _CIRCLE[0])]
        parts += _rods(wheel, _DARK, 0.04)
    for tube in ([(-hub, 0, 0.34), crank, head, saddle, crank], [(hub, 0, 0.34), (0.4, 0, 1.02)]):
        parts += _rods(tube, paint, 0.035)
    knees, feet = [(0.2, 0.12, 0.72), (0.2, -0.12, 0.52)], [(0.1, 0.12, 0.37), (-0.1, -0.12, 0.17)]
    parts += _person(rng, saddle, (0.12, 0, height - 0.4), knees, feet, hands)
    return Figure(parts, (height, 0.6, length), x, z, rotation_y, "Cyclist")


def clutter(rng: np.random.Generator, x: float, z: float, rotation_y: float) -> Figure:
    """A bin; or a pole with a sign, or with the leaves of a tree."""
    kind, height = rng.integers(3), rng.uniform(2, 6)
    parts = _rods([(0, 0, 0), (0, 0, height)], (100, 95, 90), 0.08)
    if kind == 0:
        plan = (-0.3, 0.3, -0.12 * height, 0.12 * height)
        parts = _block((*plan, 0), (*plan, rng.uniform(0.6, 1.4)), _colour(rng))
    elif kind == 1:
        parts += _rods([(0, 0, height)] * 2, _colour(rng), rng.uniform(0.1, 0.4))
    else:
        for aside, up, light in rng.normal((0, height, 1), (0.7, 0.5, 0.2), (7, 3)):
            parts += _rods([(0, aside, up)] * 2, _shade((60, 100, 40), light), 0.8)
    return Figure(parts, (height, 0.6, 0.6), x, z, rotation_y)


def backdrop(rng: np.random.Generator) -> Figure:
    """The ground, pavements, a road with its middle line, and houses on both sides."""
    verge = [(78, 100, 58), (120, 116, 108), (96, 92, 84)][rng.integers(3)]
    grey = int(rng.integers(62, 110))
    lane, pavement = (grey,) * 3, (grey + 38,) * 3
    strips = [(-4000, 4000, verge), (-9.5, 12.5, pavement), (-5.7, 8.6, lane)]
    parts = [Part(_rectangle(1, 4000, *edges, 0), colour) for *edges, colour in strips]
    for start in np.arange(rng.uniform(2, 8), 70, 8):
        parts.append(Part(_rectangle(start, start + 3, 1.52, 1.68, 0), _WHITE))
    for right, left, front in ((17, 27, 3), (-24, -14, 1)):
        for near in np.arange(129, 2, -14):
            if rng.random() < 0.8:  # gaps show the sky
                parts += _house(rng, (near, near + rng.uniform(9, 14), right, left), front)
    return Figure(parts)


def _house(rng: np.random.Generator, plan: tuple, front: int) -> list[Part]:
    """A block, with windows on one of its walls."""
    storeys, colour = rng.integers(2, 5), _shade(rng.integers(95, 215) * rng.uniform(0.85, 1, 3), 1)
    parts = _block((*plan, 0), (*plan, 3 * storeys), colour)
    for u, v in itertools.product((np.arange(4) + 0.5) / 4, (np.arange(storeys) + 0.6) / storeys):
        parts.append(_on(parts[front], (u, v), (0.06, 0.25 / storeys), _shade(colour, 0.5)))
    return parts


def _person(rng: np.random.Generator, hip: tuple, neck: tuple, *limbs: list[tuple]) -> list[Part]:
    """Legs, arms, trunk and head; `limbs` are the knees, the feet and the hands."""
    shirt, trousers = _one_of(rng, _CLOTHES), _one_of(rng, _CLOTHES[:3])
    skin = _shade(_SKIN, rng.uniform(0.5, 1))
    shoulder, head = np.add(neck, (0, 0, 0.08)), np.add(neck, (0.06, 0, 0.28))
    parts = []
    for light, knee, foot, hand in zip((0.8, 1), *limbs, strict=True):
        parts += _rods([hip, knee, foot], _shade(trousers, light), 0.08)
        parts += _rods([shoulder, hand], _shade(shirt, 0.8), 0.06)
    parts += _rods([hip, neck], shirt, 0.19) + _rods([head, head], _shade(skin, 0.4), 0.125)
    return parts + _rods([head - (0, 0, 0.03)] * 2, skin, 0.09)


def _block(floor: tuple, roof: tuple, colour: Colour) -> list[Part]:
    """The walls in front, left, behind, right, and the roof; ends as `_rectangle` takes them."""
    low, high = _rectangle(*floor), _rectangle(*roof)
    faces = [np.array([low[i], low[i - 3], high[i - 3], high[i]]) for i in range(4)] + [high]
    lights = (0.85, 1, 0.8, 1, 1.15)
    return [Part(face, _shade(colour, s)) for face, s in zip(faces, lights, strict=True)]


def _rectangle(back: float, front: float, right: float, left: float, up: float) -> np.ndarray:
    """A level one, counter-clockwise from above."""
    return np.array([(front, right, up), (front, left, up), (back, left, up), (back, right, up)])


def _on(wall: Part, at: Pair, reach: Pair, colour: Colour, shape: np.ndarray = _SQUARE) -> Part:
    """A shape on a wall; its middle and its reach are shares of the wall's length and height."""
    along, up = (at + shape * reach).T[:, :, None]
    a, b, c, d = wall.points
    return Part((1 - up) * (a + along * (b - a)) + up * (d + along * (c - d)), colour)


def _rods(points: Sequence[tuple | np.ndarray], colour: Colour, radius: float) -> list[Part]:
    """From point to point; twice the same point is a ball."""
    return [Part(np.array(pair), colour, radius) for pair in itertools.pairwise(points)]


def _around(start: np.ndarray, end: np.ndarray, radius: float) -> np.ndarray:
    """The outline of a rod with round ends, in pixels."""
    angle = math.atan2(*(end - start)[::-1])
    turn = np.array([(math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))])
    return np.where(_CIRCLE[:, :1] > 0, end, start) + radius * _CIRCLE @ turn


def _faces_us(outline: np.ndarray) -> bool:
    """Whether a convex polygon runs counter-clockwise on the screen."""
    (x0, y0), (x1, y1), (x2, y2) = outline[:3].tolist()
    return (x1 - x0) * (y2 - y1) < (y1 - y0) * (x2 - x1)


def _one_of(rng: np.random.Generator, colours: Sequence[Colour]) -> Colour:
    return colours[rng.integers(len(colours))]


def _colour(rng: np.random.Generator) -> Colour:
    return _shade(rng.integers(30, 225) + rng.integers(-28, 28, 3), 1)


def _shade(colour: Sequence[float] | np.ndarray, light: float) -> Colour:
    return tuple(int(min(255, max(0, channel * light))) for channel in colour)
