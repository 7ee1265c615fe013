# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Which objects a video shows: their attributes."""

import numpy as np

from referformer.testing.scenes.draws import pick, pick_two
from referformer.testing.scenes.params import SyntheticParams
from referformer.testing.scenes.shapes import SHAPES
from referformer.testing.scenes.vocabulary import (
    ATTRIBUTES,
    COLOURS,
    MOTIONS,
    SIZES,
)

#: How often the two objects of a video with ``objects=2`` differ in an
#: attribute. Attributes that are hard to learn have more weight.
PAIR_ODDS = {'colour': 0.1, 'shape': 0.55, 'size': 0.3, 'motion': 0.05}


def _draw_pair(
    rng: np.random.Generator, values: dict[str, tuple[str, ...]]
) -> list[dict[str, str]]:
    """Draw two objects that differ in one attribute.

    Args:
        rng: Random stream of the video.
        values: The values of each attribute.

    Returns:
        Two dicts of attributes.
    """
    names = [name for name in ATTRIBUTES if len(values[name]) > 1]
    odds = np.array([PAIR_ODDS[name] for name in names])
    name = str(rng.choice(names, p=odds / odds.sum()))
    shared = {key: pick(rng, values[key]) for key in ATTRIBUTES}
    return [{**shared, name: value} for value in pick_two(rng, values[name])]


def draw_cast(
    rng: np.random.Generator, params: SyntheticParams
) -> list[dict[str, str]]:
    """Draw the attributes of the two to four objects of a video.

    Two attributes with two values each give four combinations, for example
    ``{red, blue} x {circle, star}``. With all four as objects, each attribute
    of an object is shared by another object, so that only both together
    identify it. With three objects this holds for one of them; two objects
    share one of the two attributes. The remaining attributes are mostly equal
    for all objects.

    Args:
        rng: Random stream of the video.
        params: Parameters of the set. Objects of a one-frame video do not
            move.

    Returns:
        One dict of attributes per object, in random order.
    """
    with_motion = params.frames > 1
    values = {
        'colour': tuple(COLOURS)[: params.colours],
        'shape': tuple(SHAPES)[: params.shapes],
        'size': tuple(SIZES),
        'motion': tuple(MOTIONS) if with_motion else ('still',),
    }
    if params.objects == 2:
        return _draw_pair(rng, values)
    planes = [('colour', 'shape'), ('colour', 'size'), ('shape', 'size')]
    odds = [0.46, 0.22, 0.16]
    if with_motion:
        planes += [('colour', 'motion'), ('shape', 'motion')]
        odds += [0.08, 0.08]
    odds = np.asarray(odds) / sum(odds)
    first, second = planes[int(rng.choice(len(planes), p=odds))]
    a, b = pick_two(rng, values[first]), pick_two(rng, values[second])

    counts, shares = [2, 3, 4], np.array([0.2, 0.3, 0.5])
    shares = shares * (np.array(counts) <= params.objects)
    count = int(rng.choice(counts, p=shares / shares.sum()))
    # Of three objects, the first shares an attribute with each other one.
    corners = [(0, 0), (0, 1), (1, 0), (1, 1)]
    if count == 3:
        corners = corners[:3]
    elif count == 2:
        corners = [(0, 0), (0, 1) if rng.random() < 0.5 else (1, 0)]

    shared = {name: pick(rng, values[name]) for name in ATTRIBUTES}
    cast = []
    for i, j in corners:
        member = dict(shared)
        # Half of the objects get a motion of their own, so that a model
        # cannot rely on the other attributes being equal.
        if rng.random() < 0.5:
            member['motion'] = pick(rng, values['motion'])
        member[first] = a[i]
        member[second] = b[j]
        cast.append(member)
    order = rng.permutation(len(cast))
    return [cast[k] for k in order]
