"""What stands in a synthetic street: cars, people, cyclists and scenery, drawn in perspective.

Camera coordinates as KITTI's: x right, y down, z ahead, in metres; the ground lies at
y = CAMERA_HEIGHT.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

IMAGE_WIDTH, IMAGE_HEIGHT = 1242, 375
FOCAL, CENTRE = 721.5, np.array([609.6, 172.9])  # P2 of 2011_09_26, the usual calibration
CAMERA_HEIGHT = 1.65  # of the camera over the ground
AHEAD = -math.pi / 2  # rotation_y of what drives the way the camera looks

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Part:
    """A polygon of a figure; with a thickness a line, or around a single point a disc.

    Attributes:
        points: [N, 3]: ahead, to the left, up, in metres from the figure's foot.
        thickness: metres; 0 for a polygon. Lines and discs look the same from all sides.
        one_sided: seen only from where the points run counter-clockwise.
    """

    points: np.ndarray
    colour: Colour
    thickness: float = 0.0
    one_sided: bool = False


@dataclass(frozen=True)
class Figure:
    """Something upright on the ground.

    Attributes:
        parts: drawn in order.
        size: height, width, length in metres.
        x, z: of its foot.
        rotation_y: heading as in KITTI's labels: 0 along x, -pi/2 straight ahead.
        type: KITTI class; empty for scenery, which has no label.
    """

    parts: Sequence[Part]
    size: tuple[float, float, float]
    x: float
    z: float
    rotation_y: float
    type: str = ""

    @property
    def radius(self) -> float:
        """Metres around its foot in which nothing else may stand."""
        return 0.5 * math.hypot(self.size[1], self.size[2])


@dataclass
class Canvas:
    """A picture, and for each pixel the number of the figure that it shows (0: none)."""

    image: Image.Image
    owner: Image.Image = field(default_factory=lambda: Image.new("I", (IMAGE_WIDTH, IMAGE_HEIGHT)))

    def draw(self, figure: Figure, number: int) -> tuple[np.ndarray, int]:
        """Paints a figure over what is there.

        Returns:
            float64 [4], `left top right bottom` in pixels of all of it, also outside the image; and
            the number of pixels it has inside.
        """
        silhouette = Image.new("1", (IMAGE_WIDTH, IMAGE_HEIGHT))
        pens = [ImageDraw.Draw(layer) for layer in (self.image, self.owner, silhouette)]
        _shadow(pens[0], figure)
        extents = []
        for part in figure.parts:
            points = project(_stand(figure, part.points))
            if part.one_sided and _turns_left(points) <= 0:
                continue
            width = 0
            if part.thickness:
                width = max(1, round(part.thickness * FOCAL / figure.z))
            for pen, colour in zip(pens, (part.colour, number, 1), strict=True):
                _paint(pen, points, colour, width)
            outline = _outline(points, width)
            extents += [outline.min(0), outline.max(0)]
        box = np.concatenate([np.min(extents, 0), np.max(extents, 0)])
        return box, int(np.count_nonzero(silhouette))


def project(points: np.ndarray) -> np.ndarray:
    """Camera coordinates [N, 3] -> pixels [N, 2]."""
    return CENTRE + FOCAL * points[:, :2] / np.maximum(points[:, 2:], 0.3)


def ground(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Pixels of points (x, z) on the ground."""
    return [tuple(p) for p in project(np.array([(x, CAMERA_HEIGHT, z) for x, z in points]))]


def shade(colour: Colour, factor: float) -> Colour:
    """A colour made lighter (factor over 1) or darker."""
    return tuple(int(min(255, channel * factor)) for channel in colour)


def car(rng: np.random.Generator, x: float, z: float, rotation_y: float) -> Figure:
    """A hatchback or saloon with windows, wheels and lights."""
    height, width, length = rng.normal((1.53, 1.63, 3.88), (0.1, 0.07, 0.3))
    paint = _CAR_PAINTS[rng.integers(len(_CAR_PAINTS))]
    tail = rng.uniform(-0.46, -0.3)  # where the rear window starts: hatchback or saloon
    # Side view: along the length, up, share of the half width. From the tail to the nose.
    outline = np.array(
        [(-0.5, 0.16, 1), (-0.5, 0.6, 1), (tail, 0.63, 1), (tail + 0.12, 0.99, 0.8), (0.1, 1, 0.8),
         (0.26, 0.64, 1), (0.47, 0.54, 1), (0.5, 0.16, 1)]
    )  # fmt: skip
    glass = (40, 48, 58)
    skins = [shade(paint, 0.8), shade(paint, 1.05), glass, shade(paint, 1.2), glass,
             shade(paint, 1.1), shade(paint, 0.85)]  # fmt: skip
    u, v, w = (outline * (length, height, width / 2)).T
    parts = [
        _face([(u[i], w[i], v[i]), (u[i], -w[i], v[i]), (u[j], -w[j], v[j]), (u[j], w[j], v[j])], c)
        for i, j, c in zip(range(7), range(1, 8), skins, strict=True)
    ]
    for sign in (1, -1):
        side = [(a, sign * b, c) for a, b, c in zip(u, w, v, strict=True)][::sign]
        parts.append(_face(side, shade(paint, 0.95)))
        parts += _car_side(length, height, width / 2, tail, sign, glass)
    parts += _car_ends(length, height, width)
    return Figure(parts, (height, width, length), x, z, rotation_y, "Car")


def pedestrian(rng: np.random.Generator, x: float, z: float, rotation_y: float) -> Figure:
    """Somebody walking."""
    height, width = rng.normal(1.75, 0.1), rng.uniform(0.5, 0.7)
    stride = rng.uniform(0.05, 0.4)
    shirt, trousers, skin, hair = _clothes(rng)
    hip, knee, shoulder = 0.5 * height, 0.27 * height, 0.8 * height
    parts = []
    for sign in (1, -1):
        foot = (sign * stride, sign * 0.09, 0.04)
        bent = (sign * stride * 0.4 + 0.05, sign * 0.09, knee)
        parts.append(
            _line([foot, bent, (0, sign * 0.08, hip)], shade(trousers, 1 - 0.1 * sign), 0.15)
        )
        hand = (-sign * stride * 0.9, sign * width * 0.42, 0.47 * height)
        elbow = (-sign * stride * 0.4 - 0.04, sign * width * 0.42, 0.63 * height)
        parts.append(
            _line([hand, elbow, (0, sign * width * 0.36, shoulder)], shade(shirt, 0.8), 0.1)
        )
    parts.append(_line([(0, 0, hip - 0.05), (0, 0, shoulder + 0.04)], shirt, 0.42))
    parts += _head(0.0, height - 0.12, skin, hair)
    return Figure(parts, (height, width, 2 * stride + 0.25), x, z, rotation_y, "Pedestrian")


def cyclist(rng: np.random.Generator, x: float, z: float, rotation_y: float) -> Figure:
    """Somebody on a bicycle."""
    height, length = rng.normal(1.74, 0.07), rng.normal(1.76, 0.08)
    shirt, trousers, skin, hair = _clothes(rng)
    frame = _BIKE_PAINTS[rng.integers(len(_BIKE_PAINTS))]
    axle, radius = length / 2 - 0.34, 0.34
    tyre, crank, saddle, bar = (30, 30, 32), (0, 0, 0.3), (-0.22, 0, 0.95), (0.4, 0, 1.0)
    parts = [_line(_ring(centre, 0, radius, radius), tyre, 0.07) for centre in (-axle, axle)]
    for line in ([(-axle, 0, 0.34), crank, saddle], [crank, (0.36, 0, 0.82), saddle],
                 [(axle, 0, 0.34), (0.36, 0, 0.82), bar]):  # fmt: skip
        parts.append(_line(line, frame, 0.07))
    parts.append(_line([(0.4, 0.26, 1.02), (0.4, -0.26, 1.02)], tyre, 0.06))
    shoulder = (0.12, 0, height - 0.36)
    for sign in (1, -1):
        leg = [(0.08 * sign, sign * 0.1, 0.25 + 0.08 * sign), (0.18, sign * 0.12, 0.62), saddle]
        parts.append(_line(leg, shade(trousers, 1 - 0.1 * sign), 0.15))
        arm = [(0.4, sign * 0.24, 1.02), (0.12, sign * 0.22, height - 0.4)]
        parts.append(_line(arm, shade(shirt, 0.8), 0.1))
    parts.append(_line([saddle, shoulder], shirt, 0.4))
    parts += _head(0.2, height - 0.12, skin, hair)
    return Figure(parts, (height, 0.6, length), x, z, rotation_y, "Cyclist")


def pole(rng: np.random.Generator, x: float, z: float) -> Figure:
    """A lamp post or a traffic sign."""
    height = rng.uniform(2.2, 7.0)
    parts = [_line([(0, 0, 0), (0, 0, height)], (105, 108, 110), 0.1)]
    if height < 4:
        colour = [(200, 40, 35), (40, 80, 180), (235, 235, 230)][rng.integers(3)]
        parts.append(_disc((0, 0, height), colour, 0.7))
    return Figure(parts, (height, 0.4, 0.4), x, z, AHEAD)


def tree(rng: np.random.Generator, x: float, z: float) -> Figure:
    """A trunk under a crown of leaves."""
    height, crown = rng.uniform(4.0, 8.0), rng.uniform(1.2, 2.2)
    green = (int(rng.integers(35, 95)), int(rng.integers(75, 130)), int(rng.integers(25, 60)))
    parts = [_line([(0, 0, 0), (0, 0, height - crown)], (80, 62, 48), 0.3)]
    for _ in range(9):
        aside, up = rng.normal(0, 0.55 * crown), height - crown + rng.normal(0, 0.35 * crown)
        colour = shade(green, rng.uniform(0.7, 1.25))
        parts.append(_disc((0, aside, up), colour, crown * rng.uniform(0.9, 1.4)))
    return Figure(parts, (height, 0.6, 0.6), x, z, AHEAD)


def bin_box(rng: np.random.Generator, x: float, z: float) -> Figure:
    """A waste bin, a crate or a bush: something of an object's size that is none."""
    height, width = rng.uniform(0.7, 1.4), rng.uniform(0.5, 1.8)
    colour = tuple(int(c) for c in rng.integers(40, 170, 3))
    half = width / 2
    front = [(-0.3, half, 0), (-0.3, -half, 0), (-0.3, -half, height), (-0.3, half, height)]
    lid = [(-0.3, half, height), (-0.3, -half, height), (0.3, -half, height), (0.3, half, height)]
    parts = [Part(np.array(lid), shade(colour, 1.3)), Part(np.array(front), colour)]
    return Figure(parts, (height, width, 0.6), x, z, AHEAD)


_CAR_PAINTS: list[Colour] = [
    (38, 40, 44), (70, 74, 80), (150, 154, 158), (215, 216, 214), (238, 238, 234), (150, 30, 32),
    (30, 55, 120), (60, 95, 150), (45, 75, 60), (180, 165, 130), (215, 150, 30),
]  # fmt: skip
_BIKE_PAINTS: list[Colour] = [(190, 30, 40), (30, 90, 170), (40, 40, 44), (220, 220, 220)]
_CLOTHES: list[Colour] = [
    (40, 45, 60), (90, 92, 96), (180, 175, 165), (160, 40, 45), (50, 80, 140), (60, 110, 75),
    (205, 160, 60), (230, 230, 230), (120, 75, 110),
]  # fmt: skip


def _clothes(rng: np.random.Generator) -> tuple[Colour, Colour, Colour, Colour]:
    """Shirt, trousers, skin and hair."""
    shirt = _CLOTHES[rng.integers(len(_CLOTHES))]
    trousers = _CLOTHES[rng.integers(3)]
    skin = [(224, 186, 160), (198, 150, 118), (120, 82, 60)][rng.integers(3)]
    hair = [(50, 38, 30), (120, 90, 55), (160, 158, 150)][rng.integers(3)]
    return shirt, trousers, skin, hair


def _head(ahead: float, centre: float, skin: Colour, hair: Colour) -> list[Part]:
    return [
        _disc((ahead, 0, centre), hair, 0.24),
        _disc((ahead, 0, centre - 0.03), skin, 0.18),
    ]


def _car_side(
    length: float, height: float, half: float, tail: float, sign: int, glass: Colour
) -> list[Part]:
    """Windows and wheels of the left (sign 1) or right side."""
    parts = []
    for first, last in ((tail + 0.06, -0.08), (-0.05, 0.21)):
        top_first, top_last = max(first, tail + 0.15), min(last, 0.09)
        window = [(first, 0.67, 0.98), (last, 0.67, 0.98), (top_last, 0.93, 0.84),
                  (top_first, 0.93, 0.84)]  # fmt: skip
        corners = [(u * length, sign * w * half, v * height) for u, v, w in window][::-sign]
        parts.append(_face(corners, glass))
    for axle in (-0.31, 0.31):
        for radius, colour in ((0.33, (24, 24, 26)), (0.18, (150, 152, 156))):
            rim = _ring(axle * length, sign * half * 1.01, 0.33, radius)
            parts.append(_face(rim[::-sign], colour))
    return parts


def _car_ends(length: float, height: float, width: float) -> list[Part]:
    """Lights and number plates, at the tail and at the nose."""
    parts = []
    for end, lamp in ((-1, (200, 25, 25)), (1, (250, 245, 215))):
        at = end * length * 0.502
        for left, right, low, high, colour in (
            (0.5, 0.3, 0.42, 0.54, lamp), (-0.3, -0.5, 0.42, 0.54, lamp),
            (0.16, -0.16, 0.28, 0.36, (235, 235, 225)),
        ):  # fmt: skip
            corners = [(at, left, low), (at, right, low), (at, right, high), (at, left, high)]
            corners = [(u, w * width * 0.98, v * height) for u, w, v in corners]
            parts.append(_face(corners[::-end], colour))
    return parts


def _face(points: Sequence[tuple[float, float, float]] | np.ndarray, colour: Colour) -> Part:
    return Part(np.array(points), colour, one_sided=True)


def _line(points: Sequence[tuple], colour: Colour, thickness: float) -> Part:
    return Part(np.array(points, np.float64), colour, thickness)


def _disc(centre: tuple, colour: Colour, diameter: float) -> Part:
    return Part(np.array([centre], np.float64), colour, diameter)


def _ring(ahead: float, aside: float, up: float, radius: float) -> np.ndarray:
    """A wheel: a circle in the plane of the heading."""
    angle = np.linspace(0, 2 * np.pi, 15)
    return np.stack(
        [ahead + radius * np.cos(angle), aside + 0 * angle, up + radius * np.sin(angle)], axis=1
    )


def _stand(figure: Figure, points: np.ndarray) -> np.ndarray:
    """(ahead, left, up) of a figure -> camera coordinates."""
    cosine, sine = math.cos(figure.rotation_y), math.sin(figure.rotation_y)
    ahead, left, up = points.T
    return np.stack(
        [
            figure.x + ahead * cosine + left * sine,
            CAMERA_HEIGHT - up,
            np.maximum(figure.z - ahead * sine + left * cosine, 0.3),
        ],
        axis=1,
    )


def _turns_left(points: np.ndarray) -> float:
    """Twice the area of a polygon; positive if it runs counter-clockwise on the screen."""
    x, y = (points - points[0]).T
    return float(np.dot(x[1:], y[:-1]) - np.dot(x[:-1], y[1:]))


def _outline(points: np.ndarray, width: int) -> np.ndarray:
    """Points on the edge of what `_paint` covers; a line has blunt ends."""
    if not width:
        return points
    if len(points) == 1:
        return np.concatenate([points - width / 2, points + width / 2])
    along = np.diff(points, axis=0)
    along = along / np.maximum(np.hypot(*along.T), 1e-6)[:, None]
    across = along[:, ::-1] * [-width / 2, width / 2]
    ends = np.concatenate([points[:-1], points[1:]])
    return np.concatenate([ends + np.tile(across, (2, 1)), ends - np.tile(across, (2, 1))])


def _paint(pen: ImageDraw.ImageDraw, points: np.ndarray, colour: Colour | int, width: int) -> None:
    corners = [tuple(point) for point in points]
    if len(points) == 1:
        pen.ellipse((*(points[0] - width / 2), *(points[0] + width / 2)), colour)
    elif width:
        pen.line(corners, colour, width, joint="curve" if width > 3 else None)
    else:
        pen.polygon(corners, colour)


def _shadow(pen: ImageDraw.ImageDraw, figure: Figure) -> None:
    """A dark patch on the ground."""
    angle = np.linspace(0, 2 * np.pi, 13)
    ring = np.stack([np.cos(angle) * figure.size[2], np.sin(angle) * figure.size[1], 0 * angle], 1)
    pen.polygon([tuple(p) for p in project(_stand(figure, 0.55 * ring))], (48, 48, 50))
