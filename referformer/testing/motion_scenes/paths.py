# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Motions: where an object is, how it is turned and how large, over time."""

from typing import NamedTuple

import numpy as np

#: Direction -> unit step (x, y), y downwards.
DIRECTIONS = {
    'left': (-1.0, 0.0),
    'right': (1.0, 0.0),
    'up': (0.0, -1.0),
    'down': (0.0, 1.0),
}
#: Motions that have a direction besides; and how far they go in all, in
#: units of the frame's short side.
_TRAVELS = {
    'fast': (0.85, 1.0),
    'slow': (0.22, 0.28),
    'stopping': (0.5, 0.65),
    'starting': (0.5, 0.65),
}
_TRAVEL = (0.45, 0.6)
#: Motions on the spot. "Not moving" can be said of them too.
_IN_PLACE = ('turning', 'growing', 'shrinking')
#: Every motion; ``following`` and ``leading`` are about another object.
MOTIONS = (
    *DIRECTIONS,
    *_TRAVELS,
    'still',
    *_IN_PLACE,
    'bouncing',
    'circling',
    'following',
    'leading',
)
#: Two motions that objects may differ in alone -> how often they are drawn.
#: Most are each other's reverse: in no single frame, nor in all frames out
#: of order, can they be told apart.
TWINS = {
    ('left', 'right'): 0.2,
    ('up', 'down'): 0.16,
    ('growing', 'shrinking'): 0.1,
    ('stopping', 'starting'): 0.1,
    ('following', 'leading'): 0.12,
    ('fast', 'slow'): 0.1,
    ('still', 'left'): 0.03,
    ('still', 'right'): 0.03,
    ('still', 'up'): 0.02,
    ('still', 'down'): 0.02,
    ('turning', 'growing'): 0.03,
    ('turning', 'shrinking'): 0.03,
    ('bouncing', 'circling'): 0.06,
}


class Motion(NamedTuple):
    """What an object does.

    Attributes:
        name: Member of :data:`MOTIONS`.
        direction: Member of :data:`DIRECTIONS`; empty where it has none.
    """

    name: str
    direction: str = ''

    @property
    def truths(self) -> set[str]:
        """Every motion that can be said of the object, in a broad sense."""
        broad = {
            'bouncing': {'up', 'down'},
            'circling': {*DIRECTIONS},
            'slow': {'still'},
        }
        broad.update({name: {'still'} for name in _IN_PLACE})
        known = {self.name, self.direction} | broad.get(self.name, set())
        return known - {''}


class Path(NamedTuple):
    """A motion, frame by frame.

    Attributes:
        offsets: Way (x, y) from the middle of the path, in units of the
            frame's short side, shape (T, 2).
        angles: Rotation in radians, shape (T,).
        scales: Size relative to the usual one, shape (T,).
    """

    offsets: np.ndarray
    angles: np.ndarray
    scales: np.ndarray


def draw_motion(rng: np.random.Generator, name: str) -> Motion:
    """Complete a motion with a direction where it needs one."""
    if name in DIRECTIONS:
        return Motion(name, name)
    if name in _TRAVELS:
        # the longest way needs the long side of the frame
        choice = ('left', 'right') if name == 'fast' else tuple(DIRECTIONS)
        return Motion(name, str(rng.choice(choice)))
    if name in ('following', 'leading'):
        return Motion(name, str(rng.choice(['left', 'right'])))
    return Motion(name)


def draw_path(rng: np.random.Generator, motion: Motion, frames: int) -> Path:
    """Draw the path of a motion around its own middle."""
    time = np.linspace(0, 1, frames) if frames > 1 else np.full(1, 0.5)
    angles = np.full(frames, rng.uniform(-0.3, 0.3))
    scales = np.ones(frames)
    offsets = np.zeros((frames, 2))
    name = motion.name
    if motion.direction:
        travel = rng.uniform(*_TRAVELS.get(name, _TRAVEL))
        along = time
        if name == 'stopping':
            along = np.minimum(time / 0.5, 1)
        elif name == 'starting':
            along = np.maximum((time - 0.5) / 0.5, 0)
        step = np.array(DIRECTIONS[motion.direction])
        offsets = (along - 0.5)[:, None] * travel * step
    elif name == 'turning':
        turn = rng.uniform(1.1, 1.7) * np.pi * rng.choice([-1, 1])
        angles = rng.uniform(-np.pi, np.pi) + turn * time
    elif name in ('growing', 'shrinking'):
        scales = 0.65 + 0.7 * (time if name == 'growing' else 1 - time)
    elif name == 'bouncing':
        phase = rng.uniform(0, 1)
        height = rng.uniform(0.3, 0.36)
        hop = np.abs(np.sin(np.pi * (2 * time + phase)))
        offsets[:, 1] = height * (0.5 - hop)
    elif name == 'circling':
        turn = rng.uniform(0, 2 * np.pi)
        turn = turn + rng.choice([-1, 1]) * 2 * np.pi * 0.9 * time
        radius = rng.uniform(0.17, 0.21)
        offsets = radius * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    return Path(offsets, angles, scales)
