"""Street scenes in KITTI's format, made up: to try the whole road without KITTI.

Cars, pedestrians and cyclists stand on a street in perspective and hide each other. Labels follow
from the same geometry as the picture: boxes are tight, `occluded` is the share of a figure's pixels
that others cover, `truncated` the share of its box outside the image, location and dimensions are
those it was drawn from. What is too far or too hidden to be labelled lies under DontCare.
"""

import functools
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageFilter, ImageOps

from efficientdet.atomic import atomic_open
from efficientdet.dataset.kitti import DONT_CARE, KittiObject, parse_line
from efficientdet.dataset.parallel import map_in_order
from efficientdet.progress import track
from efficientdet.synthetic import street
from efficientdet.synthetic.street import (
    AHEAD,
    CAMERA_HEIGHT,
    IMAGE_HEIGHT,
    IMAGE_SIZE,
    IMAGE_WIDTH,
)

FIRST_ID = 900_000  # beyond KITTI's own ids, so that nobody looks up their drives

_MIN_HEIGHT = 18  # pixels; smaller figures are not labelled, as in KITTI
_VISIBLE = ((0.85, 0), (0.45, 1), (0.12, 2))  # least share of pixels seen -> occluded
_MAX_TRUNCATED = 0.9
_NOISE = 6  # of 255
_SKIES = [(90, 130, 190), (150, 165, 180), (190, 195, 200)]

# What, how many on average, x and its deviation, z (median, nearest, farthest), heading and
# its deviation.
_SCENE = (
    (street.car, 0.9, 0.3, 0.4, (17, 8, 45), AHEAD, 0.1),
    (street.car, 0.9, -3.4, 0.4, (17, 8, 45), -AHEAD, 0.1),
    (street.car, 1.0, -7.4, 0.3, (15, 5, 45), -AHEAD, 0.05),
    (street.car, 1.0, 4.4, 0.3, (15, 5, 45), AHEAD, 0.05),
    (street.car, 0.4, -1.5, 5.0, (15, 8, 45), 0.0, 1.5),  # in a turn
    (street.car, 1.2, -1.5, 4.0, (80, 65, 110), AHEAD, 0.1),  # too far off to be labelled
    (street.cyclist, 0.5, -5.6, 0.5, (14, 5.5, 40), -AHEAD, 0.3),
    (street.cyclist, 0.5, 2.7, 0.5, (14, 5.5, 40), AHEAD, 0.3),
    (street.cyclist, 0.4, -1.5, 3.0, (14, 5.5, 40), 0.0, 1.5),
    (street.pedestrian, 0.8, -9.6, 0.6, (13, 6, 35), 0.0, 2.0),
    (street.pedestrian, 0.8, 6.8, 0.6, (13, 6, 35), 0.0, 2.0),
    (street.pedestrian, 0.5, -1.5, 3.0, (13, 6, 35), 0.0, 2.0),
    (street.clutter, 3.5, -11.2, 0.5, (32, 12, 60), AHEAD, 0.0),
    (street.clutter, 3.5, 8.4, 0.5, (32, 12, 60), AHEAD, 0.0),
)


def render_set(root: str | Path, num_frames: int, seed: int = 0) -> None:
    """Writes `training/{image_2,label_2}/900000.*` and, last, `ImageSets/{train,val}.txt`.

    Every fifth frame is for validation. Frames are independent of each other: what a frame shows
    depends on the seed and its number alone.
    """
    root, what = Path(root), f"Rendering {num_frames} frames"
    written = map_in_order(functools.partial(_write_frame, root, seed), range(num_frames))
    names = list(track(written, what, num_frames))
    for subset, chosen in (
        ("val", names[4::5] or names[-1:]),
        ("train", [name for i, name in enumerate(names) if i % 5 != 4]),
    ):
        with atomic_open(root / "ImageSets" / f"{subset}.txt") as file:
            file.writelines(f"{name}\n" for name in chosen)


def _write_frame(root: Path, seed: int, frame: int) -> str:
    image, objects = render_frame(seed, frame)
    name, folder = str(FIRST_ID + frame), root / "training"
    with atomic_open(folder / "image_2" / f"{name}.png", "wb") as file:
        image.save(file, "PNG", compress_level=1)
    with atomic_open(folder / "label_2" / f"{name}.txt") as file:
        file.writelines(f"{item.line}\n" for item in objects)
    return name


def render_frame(seed: int, frame: int) -> tuple[Image.Image, list[KittiObject]]:
    """One scene, 1242 x 375, and its labels: objects from near to far, then DontCare."""
    rng = np.random.default_rng((seed, frame))
    gradient = Image.linear_gradient("L").resize(IMAGE_SIZE)
    canvas = street.Canvas(ImageOps.colorize(gradient, _SKIES[rng.integers(3)], "white"))
    canvas.draw(street.backdrop(rng), 0)
    figures = sorted(_figures(rng), key=lambda figure: -figure.z)
    drawn = [canvas.draw(figure, number) for number, figure in enumerate(figures, start=1)]
    seen = canvas.owner.histogram()
    objects, unlabelled = [], []
    for number, (figure, (box, pixels)) in enumerate(zip(figures, drawn, strict=True), start=1):
        if not figure.type or not seen[number]:
            continue
        if labelled := _label(figure, box, seen[number] / pixels):
            objects.append(labelled)
        else:
            unlabelled.append(canvas.owner.point([n == number for n in range(256)]).getbbox())
    fillers = [-1, -1, -1, -1000, -1000, -1000, -10]
    regions = [_object(DONT_CARE, -1, -1, -10, *box, *fillers) for box in _merged(unlabelled)]
    return _photograph(canvas.image, rng), [*reversed(objects), *regions]


def _figures(rng: np.random.Generator) -> list[street.Figure]:
    """Everything upright; nothing stands inside another. Depth is log-normal, as KITTI's nearly."""
    placed: list[street.Figure] = []
    for make, count, x, aside, (median, nearest, farthest), heading, turn in _SCENE:
        for _ in range(rng.poisson(count)):
            z = np.clip(median * np.exp(0.5 * rng.normal()), nearest, farthest)
            figure = make(rng, rng.normal(x, aside), z, rng.normal(heading, turn))
            if all(figure.is_apart_from(other) for other in placed):
                placed.append(figure)
    return placed


def _photograph(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Lens blur, exposure, colour cast and sensor noise."""
    image = image.filter(ImageFilter.BoxBlur(rng.uniform(0.3, 0.6)))
    gains = rng.uniform(0.65, 1.2) * rng.uniform(0.94, 1.06, 3)
    image = image.point([int(min(255, gain * level)) for gain in gains for level in range(256)])
    noise = Image.fromarray(rng.integers(0, 2 * _NOISE, (IMAGE_HEIGHT, IMAGE_WIDTH), np.uint8))
    return ImageChops.add(image, Image.merge("RGB", [noise] * 3), offset=-_NOISE)


def _label(figure: street.Figure, box: np.ndarray, visible: float) -> KittiObject | None:
    """The label of a figure, or None where KITTI's labellers would have left it out."""
    clipped = np.clip(box, 0, [IMAGE_WIDTH - 1, IMAGE_HEIGHT - 1] * 2)
    truncated = 1 - _area(clipped) / _area(box)
    occluded = next((level for share, level in _VISIBLE if visible >= share), None)
    small = clipped[3] - clipped[1] < _MIN_HEIGHT
    if occluded is None or small or truncated > _MAX_TRUNCATED:
        return None
    heading, bearing = figure.rotation_y, math.atan2(figure.x, figure.z)
    alpha, heading = (math.remainder(a, 2 * math.pi) for a in (heading - bearing, heading))
    place = (figure.x, CAMERA_HEIGHT, figure.z)
    return _object(figure.type, truncated, occluded, alpha, *clipped, *figure.size, *place, heading)


def _object(kind: str, *numbers: float) -> KittiObject:
    """The object as its text says it: two decimals."""
    return parse_line(" ".join([kind, *(f"{round(number, 2):g}" for number in numbers)]))


def _merged(boxes: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Boxes `left top right bottom`; those that overlap become one."""
    regions: list[tuple[int, ...]] = []
    for box in boxes:
        while hit := next((other for other in regions if _overlap(box, other)), None):
            regions.remove(hit)
            box = (*map(min, box[:2], hit[:2]), *map(max, box[2:], hit[2:]))
        regions.append(box)
    return regions


def _overlap(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return all(one[i] < other[i + 2] and other[i] < one[i + 2] for i in (0, 1))


def _area(box: np.ndarray) -> float:
    return float(np.prod(np.maximum(box[2:] - box[:2], 0)))
