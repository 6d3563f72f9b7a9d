"""The rays through a synthetic patient: centimetres of soft tissue and of bone on each ray.

Maps are float64 [px, px]; coordinates are as in `phantom_anatomy`.
"""

from __future__ import annotations

import math

import numpy as np

from edgekd.data import exposure
from edgekd.data.exposure import Map
from edgekd.data.phantom_anatomy import Anatomy, View

# Half the height of a rib, cm.
_RIB = 0.62


def project(body: Anatomy, view: View, x: Map, y: Map) -> tuple[Map, Map]:
    """Centimetres of soft tissue, with lung and air subtracted, and of bone along each ray."""
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
    """A smooth step from 0 to 1 that is about 4 `soft` wide."""
    return np.asarray(0.5 * (1.0 + np.tanh(value / (2.0 * soft))))


def _ball(dx: Map, dy: Map, rx: float, ry: float) -> Map:
    """Chord of an ellipsoid as a share of the longest chord: sqrt(1 - r^2), and 0 outside."""
    return np.asarray(np.sqrt(np.maximum(1.0 - (dx / rx) ** 2 - (dy / ry) ** 2, 0.0)))


def _tube(distance: Map, radius: Map | float) -> Map:
    """Chord of a tube across the ray as a share of its diameter."""
    return np.asarray(np.sqrt(np.maximum(1.0 - (distance / radius) ** 2, 0.0)))


def _segment(x: Map, y: Map, start: tuple[float, float], end: tuple[float, float]) -> Map:
    """Distance to a straight segment."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    along = np.clip(((x - start[0]) * dx + (y - start[1]) * dy) / (dx * dx + dy * dy), 0.0, 1.0)
    return np.hypot(x - start[0] - along * dx, y - start[1] - along * dy)


def _trunk(body: Anatomy, x: Map, y: Map) -> Map:
    """Soft tissue of neck, shoulders, chest and belly, as if there were no lungs."""
    outer = body.width + body.wall
    half = outer + 5.5 * _step(-y - 9.5, 1.3)
    off = np.abs(x)
    # The shoulders, and the neck between them.
    slope = body.apex - 2.4 + 0.26 * off - 9.0 * np.exp(-((off / 4.9) ** 4))
    depth = body.depth * (0.72 + 0.28 * _step(y + 9.0, 2.0))
    return (
        2.0 * depth * np.maximum(1.0 - np.abs(x / half) ** 3.2, 0.0) ** 0.5 * _step(y - slope, 0.35)
    )


def _cage(body: Anatomy, y: Map) -> Map:
    """Half the inner width of the rib cage at each height: an egg that is widest at y = 4."""
    up = np.clip((4.0 - y) / (4.0 - body.apex), 0.0, 1.0)
    return np.asarray(body.width * np.sqrt(np.maximum(1.0 - up**2.6, 0.0)))


def _lung(body: Anatomy, view: View, x: Map, y: Map, side: int) -> Map:
    """Centimetres of one lung (side 0 or 1), between cage, mediastinum and diaphragm."""
    sign = 2 * side - 1
    out = sign * x  # grows towards the patient's flank
    up = np.clip((4.0 - y) / (4.0 - body.apex), 0.0, 1.0)
    lateral = _cage(body, y)
    medial = 2.0 + sign * 0.8 * view.yaw + 1.9 * up**4 + 0.7 * np.clip(y / 8.0, 0.0, 1.0)
    centre, half = 0.5 * (lateral + medial), np.maximum(0.5 * (lateral - medial), 1e-3)
    spread = np.abs((out - centre) / half)
    thick = body.depth * 0.80 * (0.40 + 0.60 * np.sqrt(np.maximum(1.0 - up**2, 0.0)))
    reach = thick * np.sqrt(np.maximum(1.0 - spread**2.4, 0.0)) * (y > body.apex)
    # The diaphragm is a bowl that falls away to the flank, to the front, and deeper to the back. A
    # ray below the dome's top still crosses lung behind it. Fluid first shows in the sharp angle at
    # the flank.
    top = body.dome[side] - view.breath
    below = np.maximum(y - top - 0.135 * (out - 6.2) ** 2, 0.0)
    covered = np.sqrt(below / 0.085)
    return np.asarray(np.maximum(reach - covered, 0.0) + np.maximum(reach - 1.7 * covered, 0.0))


def _heart(body: Anatomy, view: View, x: Map, y: Map) -> Map:
    """Centimetres of heart: a tilted ellipsoid.

    Its width is the cardiothoracic ratio times the width of the cage.
    """
    cos, sin = math.cos(body.tilt), math.sin(body.tilt)
    # A heart lies broader after breathing out.
    half = body.heart * body.width * (1.0 + 0.02 * view.breath)
    long = half / math.hypot(cos, 0.70 * sin)
    dome = 0.5 * sum(body.dome) - view.breath
    dx, dy = x - 0.27 * half - view.yaw, y - (dome - 0.52 * long)
    along, aside = cos * dx + sin * dy, cos * dy - sin * dx
    return 1.25 * long * _ball(along, aside, long, 0.70 * long)


def _vessels(body: Anatomy, x: Map, y: Map, cell: float) -> Map:
    """Centimetres of blood vessels. They branch from both hila in straight, thinning pieces."""
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
    """Draw one piece of a vessel into `total`.

    A piece thinner than a pixel (`cell`, in cm) is drawn wider and weaker.
    """
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


def _diseased(body: Anatomy, x: Map, y: Map, air: Map, texture: Map) -> Map:
    """Subtract from the air of the lungs what consolidation, scars and fluid fill."""
    for blob in body.opacities:
        r2 = ((x - blob.x) / blob.radius_x) ** 2 + ((y - blob.y) / blob.radius_y) ** 2
        patchy = np.clip(blob.share * (1.0 + 0.35 * texture), 0.0, 1.0)
        thickness = 3.2 * math.sqrt(blob.radius_x * blob.radius_y)
        air = air - np.minimum(air, thickness) * patchy * np.exp(-(r2**1.4))
    for scar in body.scars:
        dx, dy = 1.6 * math.cos(scar.angle), 1.6 * math.sin(scar.angle)
        line = _segment(x, y, (scar.x - dx, scar.y - dy), (scar.x + dx, scar.y + dy))
        air = np.maximum(air - 1.5 * np.exp(-((line / 0.28) ** 2)), 0.0)
    for side, height in enumerate(body.fluid):
        if height:
            sign = 2 * side - 1
            flank = _cage(body, y)
            angle_y = body.dome[side] + 0.135 * (0.97 * body.width - 6.2) ** 2
            # The meniscus: fluid stands higher along the flank.
            level = angle_y - height - 1.8 * np.exp(-np.maximum(flank - sign * x, 0.0) / 1.6)
            air = air * (1.0 - 0.92 * _step(y - level, 0.35) * (sign * x > 0.5))
    return air


def _ribs(body: Anatomy, x: Map, y: Map) -> Map:
    """Centimetres of bone in nine pairs of ribs: rings round the chest that fall to the front."""
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
        # Along the flank a rib runs with the ray, which crosses more of it. The front ends are
        # cartilage.
        off = np.abs(u)
        obliquity = 1.0 + 1.1 * np.minimum(off, 1.0) ** 6
        in_front = _step(v - 0.15, 0.06)
        front = 1.0 - in_front * (1.0 - 0.75 * _step(off - 0.52, 0.06))
        hollow = 0.65 + 0.35 * (distance / _RIB) ** 2  # denser at the rim
        total[strip] += _RIB * _tube(distance, _RIB) * hollow * obliquity * front
    return total


def _spine(body: Anatomy, x: Map, y: Map) -> Map:
    """Centimetres of bone in the vertebrae, with discs between them."""
    discs = 0.82 + 0.18 * np.cos(2.0 * math.pi * (y - body.apex) / (1.05 * body.rib_gap))
    return 1.05 * discs * _tube(x, 1.8) ** 0.8 * (y > body.apex - 8.0)


def _shoulders(view: View, x: Map, y: Map) -> Map:
    """Centimetres of bone in collar bones, shoulder blades and the heads of the upper arms."""
    total = np.zeros_like(x)
    for sign in (-1.0, 1.0):
        inner = sign * 2.0 + 1.3 * view.yaw
        bend = 0.035 * (np.abs(x) - 7.0) ** 2 - 0.5
        line = _segment(x, y + bend, (inner, -9.6), (sign * 13.5, -12.4))
        total += 0.85 * _tube(line, 0.62)
        total += 0.22 * _ball(x - sign * 13.2, y + 7.0, 2.3, 5.2)
        total += 1.6 * _ball(x - sign * 16.2, y + 11.6, 2.2, 2.6)
    return total
