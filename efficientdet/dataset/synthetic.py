"""Street scenes in KITTI's format, made up: to try the whole road without KITTI.

    python -m efficientdet.dataset.synthetic --output_dir=./quickstart_out/kitti

Cars, pedestrians and cyclists stand on a street in perspective and hide each other. Labels follow
from the same geometry as the picture: boxes are tight, `occluded` is the share of a figure's pixels
that others cover, `truncated` the share of its box outside the image, location and dimensions are
those it was drawn from. What is too far or too hidden to be labelled lies under DontCare.
"""

import functools
import io
import math
import sys
from pathlib import Path

import numpy as np
from absl import flags
from PIL import Image, ImageChops, ImageDraw, ImageFilter
from rich.progress import track

from efficientdet import command
from efficientdet.atomic import atomic_open
from efficientdet.dataset import street
from efficientdet.dataset.kitti import DONT_CARE, KittiObject, parse_line
from efficientdet.dataset.parallel import map_in_order
from efficientdet.dataset.street import (
    AHEAD,
    CAMERA_HEIGHT,
    IMAGE_HEIGHT,
    IMAGE_WIDTH,
    Canvas,
    Figure,
)

FIRST_ID = 900_000  # beyond KITTI's own ids, so that nobody looks up their drives

_MIN_HEIGHT = 18  # pixels; smaller figures are not labelled, as in KITTI
_VISIBLE = ((0.85, 0), (0.45, 1), (0.12, 2))  # least share of pixels seen -> occluded
_MAX_TRUNCATED = 0.9
_NOISE = 6  # of 255


def render_set(root: str | Path, num_frames: int, seed: int = 0) -> None:
    """Writes `training/{image_2,label_2}/900000.*` and, last, `ImageSets/{train,val}.txt`.

    Every fifth frame is for validation. Frames are independent of each other: what a frame shows
    depends on the seed and its number alone.
    """
    root = Path(root)
    write = functools.partial(_write_frame, root, seed)
    written = map_in_order(write, range(num_frames))
    for _ in track(
        written,
        f"Rendering {num_frames} frames",
        total=num_frames,
        transient=True,
        disable=not sys.stdout.isatty(),
    ):
        pass
    names = [_name(frame) for frame in range(num_frames)]
    for subset, chosen in (
        ("val", names[4::5] or names[-1:]),
        ("train", [name for i, name in enumerate(names) if i % 5 != 4] or names[:1]),
    ):
        with atomic_open(root / "ImageSets" / f"{subset}.txt") as file:
            file.writelines(f"{name}\n" for name in chosen)


def render_frame(seed: int, frame: int) -> tuple[Image.Image, list[KittiObject]]:
    """One scene, 1242 x 375, and its labels: objects from near to far, then DontCare."""
    rng = np.random.default_rng((seed, frame))
    canvas = Canvas(_backdrop(rng))
    figures = sorted(_figures(rng), key=lambda figure: -figure.z)
    drawn = [canvas.draw(figure, number) for number, figure in enumerate(figures, start=1)]
    owner = np.asarray(canvas.owner)
    seen = np.bincount(owner.ravel(), minlength=len(figures) + 1)
    objects, unlabelled = [], []
    for number, (figure, (box, pixels)) in enumerate(zip(figures, drawn, strict=True), start=1):
        if not figure.type or not seen[number]:
            continue
        if labelled := _label(figure, box, seen[number] / pixels):
            objects.append(labelled)
        else:
            unlabelled.append(_bounds(owner == number))
    regions = [_dont_care(box) for box in _merged(unlabelled)]
    return _photograph(canvas.image, rng), [*reversed(objects), *regions]


def _bounds(mask: np.ndarray) -> np.ndarray:
    """float64 [4], left top right bottom of the pixels in a mask."""
    rows, columns = np.nonzero(mask)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.float64)


def _name(frame: int) -> str:
    return str(FIRST_ID + frame)


def _write_frame(root: Path, seed: int, frame: int) -> None:
    image, objects = render_frame(seed, frame)
    encoded = io.BytesIO()
    image.save(encoded, "PNG", compress_level=1)
    folder = root / "training"
    with atomic_open(folder / "image_2" / f"{_name(frame)}.png", "wb") as file:
        file.write(encoded.getvalue())
    with atomic_open(folder / "label_2" / f"{_name(frame)}.txt") as file:
        file.writelines(f"{item.line}\n" for item in objects)


# --- the scene ---


def _figures(rng: np.random.Generator) -> list[Figure]:
    """Everything upright, placed so that nothing stands inside another thing."""
    placed: list[Figure] = []
    for make, count in (
        (_road_car, rng.poisson(1.8)),
        (_parked_car, rng.poisson(2.2)),
        (_cyclist, rng.poisson(1.3)),
        (_walker, rng.poisson(2.0)),
        (_far_car, rng.poisson(1.2)),
        (_scenery, rng.poisson(7)),
    ):
        for _ in range(count):
            figure = make(rng)
            if all(_apart(figure, other) for other in placed):
                placed.append(figure)
    return placed


def _depth(rng: np.random.Generator, median: float, nearest: float, farthest: float) -> float:
    """Metres; the logarithm is normal, as KITTI's depths nearly are."""
    return float(np.clip(median * np.exp(0.5 * rng.normal()), nearest, farthest))


def _road_car(rng: np.random.Generator) -> Figure:
    lane, heading = [(0.3, AHEAD), (-3.4, -AHEAD)][rng.integers(2)]
    z = _depth(rng, 17, 8, 45)
    return street.car(rng, lane + rng.normal(0, 0.4), z, heading + rng.normal(0, 0.12))


def _parked_car(rng: np.random.Generator) -> Figure:
    side = rng.choice([-7.4, 4.4])
    heading = AHEAD if rng.random() < 0.5 else -AHEAD
    if rng.random() < 0.2:  # turning, or parked across
        heading += rng.uniform(-1.5, 1.5)
    return street.car(rng, side + rng.normal(0, 0.3), _depth(rng, 15, 5, 45), heading)


def _far_car(rng: np.random.Generator) -> Figure:
    return street.car(rng, rng.uniform(-9, 6), rng.uniform(65, 110), rng.choice([AHEAD, -AHEAD]))


def _cyclist(rng: np.random.Generator) -> Figure:
    x = rng.choice([-5.6, 2.7]) + rng.normal(0, 0.5)
    heading = rng.choice([AHEAD, -AHEAD, 0.0, math.pi], p=[0.35, 0.35, 0.15, 0.15])
    return street.cyclist(rng, x, _depth(rng, 14, 5.5, 40), heading + rng.normal(0, 0.3))


def _walker(rng: np.random.Generator) -> Figure:
    crossing = rng.random() < 0.25
    x = rng.uniform(-6, 4) if crossing else rng.choice([-9.6, 6.8]) + rng.normal(0, 0.6)
    z = _depth(rng, 13, 6, 35)
    return street.pedestrian(rng, x, z, rng.uniform(-math.pi, math.pi))


def _scenery(rng: np.random.Generator) -> Figure:
    make = (street.pole, street.tree, street.bin_box)[rng.integers(3)]
    x = rng.choice([-11.2, 8.4]) + rng.normal(0, 0.5)
    return make(rng, x, rng.uniform(9, 60))


def _apart(first: Figure, second: Figure) -> bool:
    distance = math.hypot(first.x - second.x, first.z - second.z)
    return distance > first.radius + second.radius


def _backdrop(rng: np.random.Generator) -> Image.Image:
    """Sky, ground, road with its markings, and houses on both sides."""
    horizon = street.CENTRE[1]
    top = np.array([[90, 130, 190], [150, 165, 180], [190, 195, 200]][rng.integers(3)])
    rows = np.clip(np.arange(IMAGE_HEIGHT) / horizon, 0, 1)[:, None]
    sky = top + rows * (np.array([225, 230, 235]) - top)
    image = Image.fromarray(np.repeat(sky[:, None].astype(np.uint8), IMAGE_WIDTH, axis=1))
    pen = ImageDraw.Draw(image)
    verge = [(78, 100, 58), (120, 116, 108), (96, 92, 84)][rng.integers(3)]
    pen.rectangle((0, horizon + 1, IMAGE_WIDTH, IMAGE_HEIGHT), verge)
    grey = int(rng.integers(62, 110))
    for left, right, colour in (
        (-12.5, 9.5, (grey + 40, grey + 38, grey + 34)),
        (-8.6, 5.7, (grey, grey, grey + 3)),
    ):
        pen.polygon(street.ground([(left, 2), (right, 2), (right, 400), (left, 400)]), colour)
    for start in np.arange(rng.uniform(2, 8), 70, 8):  # the middle line
        dash = [(-1.68, start), (-1.52, start), (-1.52, start + 3), (-1.68, start + 3)]
        pen.polygon(street.ground(dash), (215, 215, 210))
    for side in (-1, 1):
        _houses(pen, rng, side)
    return image


def _houses(pen: ImageDraw.ImageDraw, rng: np.random.Generator, side: int) -> None:
    """A row of fronts along one side, from far to near; gaps show the sky."""
    x = 14.0 if side > 0 else -17.0
    edges = np.cumsum(np.concatenate([[3.0], rng.uniform(8, 18, 9)]))
    for near, far in reversed(list(zip(edges[:-1], edges[1:], strict=True))):
        if rng.random() < 0.25:
            continue
        height = rng.uniform(5, 13)
        colour = tuple(int(c) for c in rng.integers(95, 215) * rng.uniform(0.85, 1.0, 3))
        pen.polygon(_front(x, near, far, 0, height), colour)
        # The wall that faces the camera.
        wall = [(x, 0), (x + side * 10, 0), (x + side * 10, height), (x, height)]
        corners = street.project(np.array([(u, CAMERA_HEIGHT - up, near) for u, up in wall]))
        pen.polygon([tuple(point) for point in corners], street.shade(colour, 0.75))
        pane = street.shade(colour, rng.uniform(0.3, 0.6))
        for storey in np.arange(1.0, height - 2, 3.0):
            for z in np.arange(near + 1, far - 1.5, 3.0):
                pen.polygon(_front(x, z, z + 1.4, storey, storey + 1.6), pane)


def _front(x: float, near: float, far: float, low: float, high: float) -> list[tuple]:
    """Pixels of an upright rectangle along the street."""
    places = ((near, low), (far, low), (far, high), (near, high))
    corners = np.array([(x, CAMERA_HEIGHT - up, z) for z, up in places])
    return [tuple(point) for point in street.project(corners)]


def _photograph(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Lens blur, exposure, colour cast and sensor noise."""
    image = image.filter(ImageFilter.BoxBlur(rng.uniform(0.3, 0.6)))
    gains = rng.uniform(0.65, 1.2) * rng.uniform(0.94, 1.06, 3)
    image = image.point([int(min(255, gain * level)) for gain in gains for level in range(256)])
    noise = Image.fromarray(rng.integers(0, 2 * _NOISE, (IMAGE_HEIGHT, IMAGE_WIDTH), np.uint8))
    return ImageChops.add(image, Image.merge("RGB", [noise] * 3), offset=-_NOISE)


# --- its labels ---


def _label(figure: Figure, box: np.ndarray, visible: float) -> KittiObject | None:
    """The label of a figure, or None where KITTI's labellers would have left it out."""
    clipped = _clip(box)
    truncated = 1 - _area(clipped) / _area(box)
    occluded = next((level for share, level in _VISIBLE if visible >= share), None)
    small = clipped[3] - clipped[1] < _MIN_HEIGHT
    if occluded is None or small or truncated > _MAX_TRUNCATED:
        return None
    alpha = _wrap(figure.rotation_y - math.atan2(figure.x, figure.z))
    numbers = [
        alpha, *clipped, *figure.size, figure.x, CAMERA_HEIGHT, figure.z, _wrap(figure.rotation_y)
    ]  # fmt: skip
    return _kitti_object(figure.type, truncated, occluded, numbers)


def _dont_care(box: np.ndarray) -> KittiObject:
    fillers = [-10.0, *box, -1.0, -1.0, -1.0, -1000.0, -1000.0, -1000.0, -10.0]
    return _kitti_object(DONT_CARE, -1, -1, fillers)


def _kitti_object(kind: str, truncated: float, occluded: int, numbers: list) -> KittiObject:
    """The object as its text says it: two decimals."""
    text = " ".join(f"{number:.2f}" for number in numbers)
    start = f"{truncated:.2f}" if truncated >= 0 else "-1"
    return parse_line(f"{kind} {start} {occluded} {text}")


def _merged(boxes: list[np.ndarray]) -> list[np.ndarray]:
    """Boxes with a margin of 3 pixels; those that touch become one."""
    regions: list[np.ndarray] = []
    for box in boxes:
        box = _clip(box + [-3, -3, 3, 3])
        touching = [r for r in regions if _overlaps(box, r)]
        while touching:
            regions = [r for r in regions if not any(r is t for t in touching)]
            group = np.stack([box, *touching])
            box = np.concatenate([group[:, :2].min(0), group[:, 2:].max(0)])
            touching = [r for r in regions if _overlaps(box, r)]
        regions.append(box)
    return regions


def _overlaps(first: np.ndarray, second: np.ndarray) -> bool:
    return bool((first[:2] < second[2:]).all() and (second[:2] < first[2:]).all())


def _clip(box: np.ndarray) -> np.ndarray:
    return np.clip(box, 0, [IMAGE_WIDTH - 1, IMAGE_HEIGHT - 1] * 2)


def _area(box: np.ndarray) -> float:
    return float(np.prod(np.maximum(box[2:] - box[:2], 0)))


def _wrap(angle: float) -> float:
    """Into [-pi, pi]."""
    return math.remainder(angle, 2 * math.pi)


def main() -> None:
    """Renders the set that the flags describe."""
    values = flags.FLAGS
    render_set(values.output_dir, values.num_frames, values.seed)
    print(f"{values.output_dir}: {values.num_frames} frames, every fifth for validation")


if __name__ == "__main__":
    flags.DEFINE_string("output_dir", None, "Folder for training/ and ImageSets/.", required=True)
    flags.DEFINE_integer("num_frames", 500, "Frames; every fifth is for validation.", 2)
    flags.DEFINE_integer("seed", 0, "The same seed draws the same frames.", 0)
    command.run(main)
