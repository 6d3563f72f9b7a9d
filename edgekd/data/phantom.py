"""The built-in SYNTHETIC chest radiographs: a seeded X-ray through a model thorax, by Beer and Lambert. numpy only.

Nothing here comes from a patient. Bodies are given by how many centimetres of air, soft tissue and bone each ray
crosses; two photon energies, scatter, detector blur and counted photons make an exposure of them, and a window makes
grey levels. Lengths are centimetres, x runs to the right of the image (the patient's left), y down, z along the ray.

    plan(count) -> indices     which images make up a set     label(index), patient(index)     what an index is
    findings(index)            which diseases an image shows in the set where one may show several
    render(seed, index, px)    one radiograph, uint8 [px, px]

Each index fixes its image on its own, so a set can be drawn in any order and by several threads. All arithmetic is
float64: machines differ in the last bit of exp(), which then is too small to move a grey level.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from edgekd.core.errors import DataError
from edgekd.data import exposure
from edgekd.data.exposure import Map

# Raise it whenever a change moves a pixel: it is part of the source's fingerprint.
VERSION = 1

CLASSES = ("normal", "opacity", "effusion", "cardiomegaly")
FINDINGS = CLASSES[1:]

TRAIN_IMAGES, TEST_IMAGES = (
    2000,
    600,
)  # the default set: about 10 s to draw, minutes to train a student on
PX = exposure.PX
LEAST_PX, MOST_PX = 16, 512  # below, ribs vanish; above, the model has no more detail to show
FEWEST_IMAGES = 80  # four classes with five images in each of train, val and test

# Images come in twelves: eight patients, four with two images and four with one, three images a class.
_CYCLE = 12
_TEST_START = (
    100_000 * _CYCLE
)  # test indices lie far behind train's, so neither moves when a set grows

_RIB = 0.62  # half the height of a rib


def plan(count: int) -> tuple[range, range]:
    """The indices of train (val included) and of test for a set of `count` images, divided as 2,000 to 600.

    Raises DataError below FEWEST_IMAGES or where the two ranges would meet.
    """
    if not FEWEST_IMAGES <= count < _TEST_START:
        raise DataError(
            f"a phantom set of {count} images", f"ask for {FEWEST_IMAGES} to {_TEST_START - 1}"
        )
    test = max(5 * len(CLASSES), round(count * TEST_IMAGES / (TRAIN_IMAGES + TEST_IMAGES)))
    return range(count - test), range(_TEST_START, _TEST_START + test)


def patient(index: int) -> int:
    """The synthetic patient of an image: of three images in a row, two are one patient's and one another's."""
    return 2 * (index // 3) + (index % 3) // 2


def label(index: int) -> str:
    """The class of an image. Every run of twelve indices has three of each class."""
    block, second = divmod(patient(index), 2)
    return CLASSES[(block + 2 * second) % len(CLASSES)]


def findings(index: int) -> tuple[str, ...]:
    """The diseases of an image where it may show none, one, two or all: each combination in every run of twelve indices."""
    return tuple(name for bit, name in enumerate(FINDINGS) if patient(index) >> bit & 1)


def render(
    seed: int, index: int, px: int = PX, diseases: Collection[str] | None = None
) -> NDArray[np.uint8]:
    """Draw image `index` of the set `seed`: uint8 [px, px], bone white. `diseases`: its label alone where not given.

    Anatomy and disease belong to the patient; position, breath, exposure and window to the image.
    """
    shown = (label(index),) if diseases is None else diseases
    body = _anatomy(np.random.default_rng([seed, patient(index), 1]), shown)
    shot = np.random.default_rng([seed, index, 2])
    view = _pose(shot, body)
    x, y = _grid(px, view)
    soft, bone = _project(body, view, x, y)
    return exposure.window(exposure.expose(soft, bone, px, shot), shot)


# --- what a patient is -----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Anatomy:
    """One patient. Lengths in cm; side -1 is the image's left (the patient's right)."""

    width: float  # inner half width of the rib cage at its widest
    depth: float  # half depth of the trunk
    wall: float  # soft tissue outside the ribs
    apex: float  # y of the lungs' tops
    dome: tuple[float, float]  # y of the diaphragm's domes, image left and right
    heart: float  # cardiothoracic ratio
    tilt: float  # angle of the heart's axis
    rib_gap: float
    rib_drop: float  # how far a rib falls from back to front, half of it
    breast: float  # thickness of the breast shadow
    bubble: float  # radius of the air in the stomach
    air: float  # share of a lung that is air
    seed: int  # for vessels and texture
    blobs: tuple[
        tuple[float, float, float, float, float], ...
    ]  # x, y, radius x, radius y, share filled
    scars: tuple[tuple[float, float, float], ...]  # x, y, angle
    fluid: tuple[
        float, float
    ]  # height of pleural fluid above the costophrenic angle, image left and right


def _anatomy(rng: Generator, diseases: Collection[str]) -> _Anatomy:
    """Draw a patient with some diseases. The mild ends of the classes overlap on purpose: no network should reach 100 %."""
    size = rng.normal(1.0, 0.05)
    width = 12.6 * size * rng.normal(1.0, 0.03)
    apex = -13.0 * size
    dome = 7.2 * size + rng.normal(0.0, 0.7)
    heart = rng.normal(0.455, 0.027)
    if "cardiomegaly" in diseases:
        heart = 0.515 + 0.11 * rng.beta(1.3, 1.6)  # the textbook limit is 0.50
    blobs: list[tuple[float, float, float, float, float]] = []
    if "opacity" in diseases:
        for _ in range(1 + int(rng.random() < 0.35)):
            severity = rng.beta(1.4, 1.3)
            radius = 1.3 + 2.3 * severity * rng.uniform(0.7, 1.2)
            side = rng.choice((-1.0, 1.0))
            y = rng.uniform(apex + 5.0, dome - 0.5)
            blobs.append(
                (
                    side * rng.uniform(4.6, 0.80 * width),
                    y,
                    radius * rng.uniform(0.8, 1.3),
                    radius * rng.uniform(0.7, 1.1),
                    0.16 + 0.5 * severity,
                )
            )
    fluid = [0.0, 0.0]
    if "effusion" in diseases:
        height = 1.0 + 6.0 * rng.beta(1.1, 2.0)
        side_index = int(rng.random() < 0.5)
        fluid[side_index] = height
        if rng.random() < 0.25:
            fluid[1 - side_index] = height * rng.uniform(0.3, 0.9)
    # A line of scar or plate atelectasis is no disease here, but it is bright and in the lung.
    scars = tuple(
        (
            float(rng.choice((-1.0, 1.0))) * rng.uniform(4.5, 0.7 * width),
            rng.uniform(-3.0, dome - 1.0),
            rng.normal(0.0, 0.3),
        )
        for _ in range(rng.binomial(2, 0.15))
    )
    return _Anatomy(
        width=width,
        depth=9.6 * size * rng.normal(1.0, 0.06),
        wall=rng.uniform(1.2, 3.0),
        apex=apex,
        dome=(dome, dome + rng.normal(1.0, 0.4)),
        heart=heart,
        tilt=math.radians(rng.normal(36.0, 6.0)),
        rib_gap=2.35 * size * rng.normal(1.0, 0.04),
        rib_drop=rng.uniform(3.6, 5.4),
        breast=rng.uniform(0.6, 3.2) if rng.random() < 0.5 else 0.0,
        bubble=rng.uniform(1.0, 2.3) if rng.random() < 0.6 else 0.0,
        air=rng.uniform(0.66, 0.78),
        seed=int(rng.integers(1 << 31)),
        blobs=tuple(blobs),
        scars=scars,
        fluid=(fluid[0], fluid[1]),
    )


@dataclasses.dataclass(frozen=True)
class _View:
    """How the patient stood: shift in cm, in-plane angle, scale, yaw (cm that the middle moves), lost breath in cm."""

    dx: float
    dy: float
    angle: float
    scale: float
    yaw: float
    breath: float


def _pose(rng: Generator, body: _Anatomy) -> _View:
    fit = 14.3 / body.width  # the radiographer moves the tube until the chest fills the film
    return _View(
        rng.normal(0.0, 0.5),
        rng.normal(0.3, 0.7),
        math.radians(rng.normal(0.0, 2.0)),
        fit * rng.normal(1.0, 0.035),
        rng.normal(0.0, 0.5),
        float(np.clip(rng.gamma(1.5, 0.6), 0.0, 3.0)),
    )


def _grid(px: int, view: _View) -> tuple[Map, Map]:
    """The patient's x and y in cm at each pixel's centre: two maps [px, px]."""
    axis = ((np.arange(px) + 0.5) / px - 0.5) * exposure.FIELD_CM / view.scale
    across, down = np.meshgrid(axis - view.dx, axis - view.dy)
    cos, sin = math.cos(view.angle), math.sin(view.angle)
    return cos * across + sin * down, cos * down - sin * across


# --- what a ray crosses ----------------------------------------------------------------------------------------------


def _project(body: _Anatomy, view: _View, x: Map, y: Map) -> tuple[Map, Map]:
    """Centimetres of soft tissue (lung and air already taken off) and of bone along each ray."""
    cell = exposure.FIELD_CM / len(x)
    texture = exposure.texture(len(x), np.random.default_rng(body.seed + 1))
    trunk = _trunk(body, x, y)
    air = np.zeros_like(x)
    for side in (0, 1):
        air += _lung(body, view, x, y, side)
    air = np.maximum(air - _heart(body, view, x, y), 0.0)
    middle = x - 0.7 * view.yaw
    air = np.maximum(air - _ball(middle - 2.9, y + 5.6, 1.9, 2.2) * 3.0, 0.0)  # the aortic arch
    air = np.maximum(air - _vessels(body, x, y, cell), 0.0)
    air *= 1.0 - 0.05 * texture
    air = _diseased(body, x, y, air, texture)

    soft = trunk - body.air * air
    soft -= 1.5 * _ball(middle - 0.2, 0.0 * y, 0.9, 1.0) * _step(-4.0 - y, 0.5)  # the windpipe
    for sign in (-1.0, 1.0):
        line = _segment(middle, y, (0.2, -4.2), (sign * 3.2, -2.0))
        soft -= 0.8 * _tube(line, 0.55)
        soft += body.breast * np.sqrt(_ball(x - sign * 7.0, y - 4.0, 5.4, 5.0))
    if body.bubble:
        soft -= 4.0 * _ball(
            x - 6.0, y - (body.dome[1] - view.breath + 2.6), 1.5 * body.bubble, body.bubble
        )
    soft -= 2.5 * _step(y - body.dome[0] - 3.0, 1.5) * 0.15 * (1.0 + texture)  # gas in the bowel
    bone = _ribs(body, x, y) + _spine(body, middle, y) + _shoulders(view, x, y)
    return np.maximum(soft, 0.0), bone


def _step(value: Map, soft: float) -> Map:
    """0 to 1 across about 4 `soft`."""
    return np.asarray(0.5 * (1.0 + np.tanh(value / (2.0 * soft))))


def _ball(dx: Map, dy: Map, rx: float, ry: float) -> Map:
    """Chord of an ellipsoid, as a share of its thickest: sqrt(1 - r^2), 0 outside."""
    return np.asarray(np.sqrt(np.maximum(1.0 - (dx / rx) ** 2 - (dy / ry) ** 2, 0.0)))


def _tube(distance: Map, radius: Map | float) -> Map:
    """Chord of a tube across the ray, as a share of its diameter."""
    return np.asarray(np.sqrt(np.maximum(1.0 - (distance / radius) ** 2, 0.0)))


def _segment(x: Map, y: Map, start: tuple[float, float], end: tuple[float, float]) -> Map:
    """Distance to a straight segment."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    along = np.clip(((x - start[0]) * dx + (y - start[1]) * dy) / (dx * dx + dy * dy), 0.0, 1.0)
    return np.hypot(x - start[0] - along * dx, y - start[1] - along * dy)


def _trunk(body: _Anatomy, x: Map, y: Map) -> Map:
    """Soft tissue of neck, shoulders, chest and belly, as if there were no lungs."""
    outer = body.width + body.wall
    half = outer + 5.5 * _step(-y - 9.5, 1.3)
    off = np.abs(x)
    slope = (
        body.apex - 2.4 + 0.26 * off - 9.0 * np.exp(-((off / 4.9) ** 4))
    )  # shoulders, and the neck between them
    depth = body.depth * (0.72 + 0.28 * _step(y + 9.0, 2.0))
    return (
        2.0 * depth * np.maximum(1.0 - np.abs(x / half) ** 3.2, 0.0) ** 0.5 * _step(y - slope, 0.35)
    )


def _cage(body: _Anatomy, y: Map) -> Map:
    """Half width of the rib cage's inside at a height: an egg that is widest at y = 4."""
    up = np.clip((4.0 - y) / (4.0 - body.apex), 0.0, 1.0)
    return np.asarray(body.width * np.sqrt(np.maximum(1.0 - up**2.6, 0.0)))


def _lung(body: _Anatomy, view: _View, x: Map, y: Map, side: int) -> Map:
    """Lung crossed by each ray, between cage, mediastinum and diaphragm."""
    sign = 2 * side - 1
    out = sign * x  # grows towards the patient's flank
    up = np.clip((4.0 - y) / (4.0 - body.apex), 0.0, 1.0)
    lateral = _cage(body, y)
    medial = 2.0 + sign * 0.8 * view.yaw + 1.9 * up**4 + 0.7 * np.clip(y / 8.0, 0.0, 1.0)
    centre, half = 0.5 * (lateral + medial), np.maximum(0.5 * (lateral - medial), 1e-3)
    spread = np.abs((out - centre) / half)
    thick = body.depth * 0.80 * (0.40 + 0.60 * np.sqrt(np.maximum(1.0 - up**2, 0.0)))
    reach = thick * np.sqrt(np.maximum(1.0 - spread**2.4, 0.0)) * (y > body.apex)
    # The diaphragm is a bowl that falls away to the flank, the front and (deeper) the back; a ray below the dome's top
    # still crosses lung behind it, and the sharp angle at the flank is where fluid shows first.
    top = body.dome[side] - view.breath
    below = np.maximum(y - top - 0.135 * (out - 6.2) ** 2, 0.0)
    covered = np.sqrt(below / 0.085)
    return np.asarray(np.maximum(reach - covered, 0.0) + np.maximum(reach - 1.7 * covered, 0.0))


def _heart(body: _Anatomy, view: _View, x: Map, y: Map) -> Map:
    """Heart crossed by each ray: a tilted ellipsoid whose width is the cardiothoracic ratio times the cage's."""
    cos, sin = math.cos(body.tilt), math.sin(body.tilt)
    half = (
        body.heart * body.width * (1.0 + 0.02 * view.breath)
    )  # a heart lies broader when the breath is out
    long = half / math.hypot(cos, 0.70 * sin)
    dome = 0.5 * sum(body.dome) - view.breath
    dx, dy = x - 0.27 * half - view.yaw, y - (dome - 0.52 * long)
    along, aside = cos * dx + sin * dy, cos * dy - sin * dx
    return 1.25 * long * _ball(along, aside, long, 0.70 * long)


def _vessels(body: _Anatomy, x: Map, y: Map, cell: float) -> Map:
    """Blood vessels that branch from the two hila: a few straight, thinning pieces each."""
    rng = np.random.default_rng(body.seed)
    total = np.zeros_like(x)
    for sign in (-1.0, 1.0):
        np.maximum(total, 2.2 * _ball(x - sign * 3.4, y + 0.6, 1.3, 2.0), out=total)
        for angle in np.linspace(-1.25, 1.25, 9) + rng.normal(0.0, 0.12, 9):
            tip = (sign * 3.3, -0.6)
            radius, bend = rng.uniform(0.32, 0.5), angle
            for reach in (2.6, 2.2, 2.0):
                bend += rng.normal(0.0, 0.22)
                end = (tip[0] + sign * reach * math.cos(bend), tip[1] + reach * math.sin(bend))
                _add_piece(total, x, y, cell, tip, end, radius)
                tip, radius = end, 0.68 * radius
    return total


def _add_piece(
    total: Map,
    x: Map,
    y: Map,
    cell: float,
    start: tuple[float, float],
    end: tuple[float, float],
    radius: float,
) -> None:
    """Lay one vessel into `total`, in its own window. What is thinner than a pixel is drawn wider and weaker."""
    wide = max(radius, 0.75 * cell)
    middle = (0.5 * (start[0] + end[0]), 0.5 * (start[1] + end[1]))
    reach = 0.5 * math.dist(start, end) + wide
    rows = np.flatnonzero(
        np.abs(y[:, len(y) // 2] - middle[1]) < 1.2 * reach + 0.05 * abs(middle[0])
    )
    columns = np.flatnonzero(
        np.abs(x[len(x) // 2] - middle[0]) < 1.2 * reach + 0.05 * abs(middle[1])
    )
    if not len(rows) or not len(columns):
        return
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    distance = _segment(x[window], y[window], start, end)
    np.maximum(
        total[window], 2.0 * radius * (radius / wide) * _tube(distance, wide), out=total[window]
    )


def _diseased(body: _Anatomy, x: Map, y: Map, air: Map, texture: Map) -> Map:
    """Take from the lungs' air what consolidation, scars and fluid fill."""
    for blob_x, blob_y, rx, ry, share in body.blobs:
        r2 = ((x - blob_x) / rx) ** 2 + ((y - blob_y) / ry) ** 2
        patchy = np.clip(share * (1.0 + 0.35 * texture), 0.0, 1.0)
        air = air - np.minimum(air, 3.2 * math.sqrt(rx * ry)) * patchy * np.exp(-(r2**1.4))
    for scar_x, scar_y, angle in body.scars:
        dx, dy = 1.6 * math.cos(angle), 1.6 * math.sin(angle)
        line = _segment(x, y, (scar_x - dx, scar_y - dy), (scar_x + dx, scar_y + dy))
        air = np.maximum(air - 1.5 * np.exp(-((line / 0.28) ** 2)), 0.0)
    for side, height in enumerate(body.fluid):
        if height:
            sign = 2 * side - 1
            flank = _cage(body, y)
            angle_y = body.dome[side] + 0.135 * (0.97 * body.width - 6.2) ** 2
            level = (
                angle_y - height - 1.8 * np.exp(-np.maximum(flank - sign * x, 0.0) / 1.6)
            )  # the meniscus
            air = air * (1.0 - 0.92 * _step(y - level, 0.35) * (sign * x > 0.5))
    return air


def _ribs(body: _Anatomy, x: Map, y: Map) -> Map:
    """Bone of nine pairs of ribs: tilted rings round the chest, high at the back and low in front."""
    total = np.zeros_like(x)
    lowest, highest = y.min(axis=1), y.max(axis=1)
    for number in range(9):
        centre = body.apex + 3.0 + number * body.rib_gap
        wide = float(_cage(body, np.array([centre]))[0]) + 0.5
        drop = body.rib_drop * (0.50 + 0.50 * min(1.0, number / 4.0))
        inside = (lowest < centre + drop + _RIB) & (highest > centre - drop - _RIB)
        rows = np.flatnonzero(inside)
        if not len(rows):
            continue
        strip = slice(rows[0], rows[-1] + 1)
        u, v = x[strip] / wide, (y[strip] - centre) / drop
        radius = np.sqrt(u * u + v * v) + 1e-9
        slope = np.sqrt((u / wide) ** 2 + (v / drop) ** 2) / radius
        distance = (radius - 1.0) / np.maximum(slope, 1e-6)
        # Along the flank a rib runs with the ray, which crosses more of it; the front ends are cartilage.
        off = np.abs(u)
        obliquity = 1.0 + 1.1 * np.minimum(off, 1.0) ** 6
        in_front = _step(v - 0.15, 0.06)
        front = 1.0 - in_front * (1.0 - 0.75 * _step(off - 0.52, 0.06))
        hollow = 0.65 + 0.35 * (distance / _RIB) ** 2  # denser at the rim
        total[strip] += _RIB * _tube(distance, _RIB) * hollow * obliquity * front
    return total


def _spine(body: _Anatomy, x: Map, y: Map) -> Map:
    """Bone of the vertebrae, with discs between them."""
    discs = 0.82 + 0.18 * np.cos(2.0 * math.pi * (y - body.apex) / (1.05 * body.rib_gap))
    return 1.05 * discs * _tube(x, 1.8) ** 0.8 * (y > body.apex - 8.0)


def _shoulders(view: _View, x: Map, y: Map) -> Map:
    """Bone of collar bones, shoulder blades and the heads of the upper arms."""
    total = np.zeros_like(x)
    for sign in (-1.0, 1.0):
        inner = sign * 2.0 + 1.3 * view.yaw
        bend = 0.035 * (np.abs(x) - 7.0) ** 2 - 0.5
        line = _segment(x, y + bend, (inner, -9.6), (sign * 13.5, -12.4))
        total += 0.85 * _tube(line, 0.62)
        total += 0.22 * _ball(x - sign * 13.2, y + 7.0, 2.3, 5.2)
        total += 1.6 * _ball(x - sign * 16.2, y + 11.6, 2.2, 2.6)
    return total
