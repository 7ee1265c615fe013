# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Shapes of objects, told apart by their silhouette alone."""

from typing import NamedTuple

import numpy as np


class Shape(NamedTuple):
    """A polygon inside the unit circle, perhaps with a hole.

    Attributes:
        outline: Corners (x, y), y downwards, shape (P, 2).
        hole: Size of the hole as a fraction of the outline, 0 for none.
    """

    outline: np.ndarray
    hole: float = 0.0

    @property
    def area(self) -> float:
        """Area in units of the squared radius of the circle."""
        x, y = self.outline.T
        area = abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
        return area * (1 - self.hole**2)


def _on_circle(turn: np.ndarray) -> np.ndarray:
    """Return the points at angles of shape (P,) in radians."""
    return np.stack([np.cos(turn), np.sin(turn)], axis=1)


def _star() -> np.ndarray:
    corner = np.arange(10)
    radius = np.where(corner % 2 == 0, 1.0, 0.46)
    return _on_circle(-np.pi / 2 + corner * np.pi / 5) * radius[:, None]


def _cross() -> np.ndarray:
    w, e = 0.34, 0.94
    half = [(-w, -e), (w, -e), (w, -w), (e, -w), (e, w), (w, w)]
    return np.array(half + [(-x, -y) for x, y in half])


_CIRCLE = _on_circle(np.linspace(0, 2 * np.pi, 48, endpoint=False))

#: Shapes by name, the most different ones first. A set with n shapes uses
#: the first n, so new ones go to the end.
SHAPES = {
    'circle': Shape(_CIRCLE),
    'triangle': Shape(_on_circle(-np.pi / 2 + np.arange(3) * 2 * np.pi / 3)),
    'cross': Shape(_cross()),
    'square': Shape(
        np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / np.sqrt(2)
    ),
    'star': Shape(_star()),
    'ring': Shape(_CIRCLE, hole=0.52),
}
