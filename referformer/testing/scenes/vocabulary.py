# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Appearance and motion of objects, and the words for them."""

from collections.abc import Collection

import numpy as np

from referformer.testing.scenes.shapes import SHAPES

#: Colour name -> RGB. A set with n colours uses the first n, so new ones go
#: to the end.
COLOURS = {
    'red': (214, 38, 40),
    'green': (38, 160, 58),
    'blue': (38, 78, 224),
    'yellow': (246, 220, 40),
    'purple': (150, 48, 186),
    'cyan': (60, 214, 226),
    'white': (244, 244, 244),
    'black': (22, 22, 22),
}
#: Size class -> range of the object's area as a fraction of the frame.
SIZES = {'small': (0.030, 0.042), 'large': (0.085, 0.115)}
#: Motion -> unit direction (x, y) in image coordinates.
MOTIONS = {
    'left': (-1.0, 0.0),
    'right': (1.0, 0.0),
    'up': (0.0, -1.0),
    'down': (0.0, 1.0),
    'still': (0.0, 0.0),
}
#: Motion -> ways to say it: a participle ("a star moving left") and a finite
#: clause ("the star that moves left").
MOTION_PHRASES = {
    'left': (('moving left', 'moving to the left'), 'moves to the left'),
    'right': (('moving right', 'moving to the right'), 'moves to the right'),
    'up': (('moving up', 'going up'), 'moves up'),
    'down': (('moving down', 'going down'), 'moves down'),
    'still': (('standing still', 'not moving'), 'stands still'),
}
#: Nouns used when the shape is not mentioned.
GENERIC_NOUNS = ('object', 'thing')
#: Attribute names in the order in which they are tried.
ATTRIBUTES = ('colour', 'shape', 'size', 'motion')
#: Every word an expression can contain.
VOCABULARY = tuple(
    sorted(
        {'the', 'a', 'an', 'that', 'which', 'is', 'and', 'in', 'colour'}
        | set(COLOURS)
        | set(SHAPES)
        | set(SIZES)
        | set(GENERIC_NOUNS)
        | {
            word
            for participles, clause in MOTION_PHRASES.values()
            for phrase in (*participles, clause)
            for word in phrase.split()
        }
    )
)


def pick(rng: np.random.Generator, values: Collection[str]) -> str:
    """Draw one value."""
    return str(rng.choice(list(values)))


def pick_two(rng: np.random.Generator, values: Collection[str]) -> list[str]:
    """Draw two different values."""
    return [str(v) for v in rng.choice(list(values), 2, replace=False)]
