# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Kinds of objects, each drawn from a few polygons."""

from typing import NamedTuple

import numpy as np


class Part(NamedTuple):
    """A polygon of an object.

    Attributes:
        outline: Corners (x, y) in the unit circle, y downwards, (P, 2).
        paint: ``'body'`` has the object's colour and pattern, ``'shade'`` a
            darker and ``'light'`` a lighter tone of its colour, ``'hole'``
            shows what is behind; else an RGB colour.
    """

    outline: np.ndarray
    paint: str | tuple[int, int, int] = 'body'


_BLACK, _GLASS, _WHITE = (36, 36, 40), (196, 228, 240), (250, 250, 250)
_WOOD = (122, 82, 48)


def _polygon(*corners: tuple[float, float]) -> np.ndarray:
    return np.array(corners, float)


def _ellipse(
    x: float, y: float, rx: float, ry: float | None = None
) -> np.ndarray:
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    ry = rx if ry is None else ry
    return np.stack([x + rx * np.cos(turn), y + ry * np.sin(turn)], axis=1)


def _box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return _polygon((left, top), (right, top), (right, bottom), (left, bottom))


def _star(outer: float, inner: float) -> np.ndarray:
    corner = np.arange(10)
    radius = np.where(corner % 2 == 0, outer, inner)
    turn = -np.pi / 2 + corner * np.pi / 5
    return np.stack([np.cos(turn), np.sin(turn)], axis=1) * radius[:, None]


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x / 17.0, (-y - 2.5) / 16.0], axis=1)


#: Kinds by name; parts are drawn one over the other. A set with n kinds uses
#: the first n, so new ones go to the end.
KINDS: dict[str, tuple[Part, ...]] = {
    'star': (Part(_star(1.0, 0.5)),),
    'heart': (Part(_heart()), Part(_ellipse(-0.5, -0.4, 0.17, 0.12), 'light')),
    'arrow': (
        Part(
            _polygon(
                (-0.95, -0.32),
                (0.1, -0.32),
                (0.1, -0.8),
                (1.0, 0.0),
                (0.1, 0.8),
                (0.1, 0.32),
                (-0.95, 0.32),
            )
        ),
    ),
    'ring': (Part(_ellipse(0, 0, 0.95)), Part(_ellipse(0, 0, 0.42), 'hole')),
    'house': (
        Part(_box(-0.68, -0.15, 0.68, 0.85)),
        Part(_polygon((-0.9, -0.15), (0.0, -0.98), (0.9, -0.15)), 'shade'),
        Part(_box(-0.14, 0.3, 0.2, 0.85), _WOOD),
        Part(_box(-0.52, 0.1, -0.24, 0.42), _GLASS),
    ),
    'fish': (
        Part(_polygon((0.35, 0.0), (0.98, -0.6), (0.98, 0.6)), 'shade'),
        Part(_ellipse(-0.2, 0.0, 0.78, 0.54)),
        Part(_polygon((-0.3, 0.05), (0.1, 0.0), (0.02, 0.34)), 'shade'),
        Part(_ellipse(-0.6, -0.12, 0.14), _WHITE),
        Part(_ellipse(-0.63, -0.12, 0.07), _BLACK),
    ),
    'car': (
        Part(
            _polygon(
                (-0.55, -0.05), (-0.35, -0.6), (0.35, -0.6), (0.62, -0.05)
            )
        ),
        Part(
            _polygon(
                (-0.97, -0.05),
                (0.7, -0.1),
                (0.97, 0.1),
                (0.97, 0.45),
                (-0.97, 0.45),
            )
        ),
        Part(
            _polygon(
                (-0.42, -0.1), (-0.28, -0.46), (-0.02, -0.46), (-0.02, -0.1)
            ),
            _GLASS,
        ),
        Part(
            _polygon((0.08, -0.1), (0.08, -0.46), (0.28, -0.46), (0.44, -0.1)),
            _GLASS,
        ),
        Part(_ellipse(-0.52, 0.45, 0.26), _BLACK),
        Part(_ellipse(0.52, 0.45, 0.26), _BLACK),
        Part(_ellipse(-0.52, 0.45, 0.1), _GLASS),
        Part(_ellipse(0.52, 0.45, 0.1), _GLASS),
    ),
    'tree': (
        Part(_box(-0.17, 0.2, 0.17, 0.98), _WOOD),
        Part(_ellipse(-0.4, 0.05, 0.42)),
        Part(_ellipse(0.4, 0.05, 0.42)),
        Part(_ellipse(0.0, -0.42, 0.54)),
        Part(_ellipse(0.0, 0.1, 0.4)),
    ),
    'cup': (
        Part(_ellipse(0.55, 0.0, 0.4)),
        Part(_ellipse(0.55, 0.0, 0.18), 'hole'),
        Part(
            _polygon((-0.85, -0.62), (0.55, -0.62), (0.38, 0.8), (-0.68, 0.8))
        ),
        Part(_ellipse(-0.15, -0.62, 0.7, 0.2), 'shade'),
    ),
    'key': (
        Part(_box(-0.2, -0.18, 0.98, 0.18)),
        Part(_box(0.32, 0.1, 0.58, 0.58)),
        Part(_box(0.72, 0.1, 0.98, 0.58)),
        Part(_ellipse(-0.48, 0.0, 0.5)),
        Part(_ellipse(-0.5, 0.0, 0.2), 'hole'),
    ),
    'boat': (
        Part(_box(-0.07, -0.95, 0.07, 0.3), _WOOD),
        Part(_polygon((0.1, -0.9), (0.85, 0.2), (0.1, 0.2)), _WHITE),
        Part(_polygon((-0.1, -0.7), (-0.1, 0.2), (-0.7, 0.2)), _WHITE),
        Part(_polygon((-0.95, 0.3), (0.95, 0.3), (0.6, 0.85), (-0.6, 0.85))),
    ),
    'mushroom': (
        Part(_box(-0.3, 0.0, 0.3, 0.92), (236, 222, 196)),
        Part(
            np.concatenate(
                [
                    _ellipse(0.0, 0.1, 0.95, 0.95)[20:],
                    _polygon((0.95, 0.2), (-0.95, 0.2)),
                ]
            )
        ),
    ),
}
