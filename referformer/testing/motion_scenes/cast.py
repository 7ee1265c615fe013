# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Which objects a video shows, and where they are."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from referformer.testing.motion_scenes.looks import (
    COLOURS,
    LOOKS,
    PATTERNS,
    SIZES,
)
from referformer.testing.motion_scenes.paths import (
    DIRECTIONS,
    TWINS,
    Motion,
    Path,
    draw_motion,
    draw_path,
)

#: Cue, that in which two objects of a video differ -> how often.
CUES = {
    'colour': 0.1,
    'kind': 0.16,
    'size': 0.12,
    'pattern': 0.14,
    'motion': 0.33,
    'relation': 0.15,
}
#: Relation of the first twin to the third object -> that of the second.
RELATIONS = {
    'left': 'right',
    'right': 'left',
    'above': 'below',
    'below': 'above',
    'behind': 'before',
    'before': 'behind',
}
_SIDES = {**DIRECTIONS, 'above': (0.0, -1.0), 'below': (0.0, 1.0)}
#: Motions of objects that are not about motion.
_PLAIN_MOTIONS = ('still', *DIRECTIONS, 'turning', 'bouncing', 'circling')
#: How many times a place is looked for before the scene is drawn anew.
_TRIES = 40
#: Free space that paths leave at the border of the frame, in radii.
_MARGIN = 0.9


@dataclasses.dataclass(frozen=True)
class MovingObject:
    """An object: what can be said of it, and where it is.

    Lengths are in units of the frame's short side.

    Args:
        kind: Member of :data:`~.kinds.KINDS`.
        colour: Member of :data:`~.looks.COLOURS`.
        pattern: Member of :data:`~.looks.PATTERNS`.
        size: Member of :data:`~.looks.SIZES`.
        motion: What it does.
        radius: Radius of the circle around it.
        depth: The larger, the nearer to the viewer.
        centres: Centre (x, y) in every frame, shape (T, 2).
        angles: Rotation in radians in every frame, shape (T,).
        scales: Factor on the radius in every frame, shape (T,).
        mirrored: Whether it is drawn the other way round.
    """

    kind: str
    colour: str
    pattern: str
    size: str
    motion: Motion
    radius: float
    depth: int
    centres: np.ndarray
    angles: np.ndarray
    scales: np.ndarray
    mirrored: bool

    @property
    def looks(self) -> dict[str, str]:
        """What a single frame shows of it, by name."""
        return {name: getattr(self, name) for name in LOOKS}

    @property
    def attributes(self) -> dict[str, str]:
        """Looks and motion by name."""
        return {**self.looks, 'motion': self.motion.name}

    @property
    def category(self) -> str:
        """What a data set calls its class."""
        return self.kind


@dataclasses.dataclass(frozen=True)
class Cast:
    """The objects of a video.

    Args:
        cue: In what the first two objects, the twins, differ alone.
        objects: Two twins and one or two others.
        relations: Of the twins to the third object; empty for other cues.
    """

    cue: str
    objects: tuple[MovingObject, ...]
    relations: tuple[str, ...] = ()


def _others(
    rng: np.random.Generator, values: Sequence[str], *taken: str
) -> str:
    return str(rng.choice([value for value in values if value not in taken]))


def _draw_looks(
    rng: np.random.Generator, cue: str, kinds: Sequence[str], count: int
) -> list[dict[str, str]]:
    """Draw the looks of two twins and ``count - 2`` others."""
    values = {
        'size': tuple(SIZES),
        'pattern': PATTERNS,
        'colour': tuple(COLOURS),
        'kind': tuple(kinds),
    }
    first = {name: str(rng.choice(values[name])) for name in LOOKS}
    if cue in ('colour', 'kind', 'size') and rng.random() < 0.6:
        first['pattern'] = 'plain'
    second = dict(first)
    if cue in LOOKS:
        second[cue] = _others(rng, values[cue], first[cue])
    looks = [first, second]
    for number in range(2, count):
        # Others share looks with the twins, so that no word is enough alone.
        other = {name: str(rng.choice(values[name])) for name in LOOKS}
        other['kind'] = _others(rng, kinds, first['kind'], second['kind'])
        if cue not in ('kind', 'colour') and number == 3:
            other['kind'] = first['kind']
            colours = {look['colour'] for look in looks}
            other['colour'] = _others(rng, values['colour'], *colours)
        elif rng.random() < 0.5:
            other['colour'] = first['colour']
        if cue in ('size', 'pattern') and rng.random() < 0.5:
            other[cue] = first[cue]
        looks.append(other)
    return looks


def _draw_motions(
    rng: np.random.Generator, cue: str, count: int
) -> list[Motion]:
    plain = [
        draw_motion(rng, str(rng.choice(_PLAIN_MOTIONS))) for _ in range(count)
    ]
    if cue == 'relation':
        name = str(rng.choice(['still', *DIRECTIONS]))
        plain[:3] = [draw_motion(rng, name)] * 3
    if cue != 'motion':
        return plain
    pairs, odds = list(TWINS), np.array(list(TWINS.values()))
    pair = pairs[int(rng.choice(len(pairs), p=odds / odds.sum()))]
    names = [pair[k] for k in rng.permutation(2)]
    first = draw_motion(rng, names[0])
    second = draw_motion(rng, names[1])
    if first.direction and second.direction and names[0] not in DIRECTIONS:
        second = second._replace(direction=first.direction)
    plain[:2] = first, second
    if names[0] in ('following', 'leading'):
        plain[2] = Motion(first.direction, first.direction)
    return plain


def _draw_paths(
    rng: np.random.Generator, cue: str, motions: list[Motion], frames: int
) -> list[Path]:
    """Draw the path of each object around its own middle."""
    names = {motion.name for motion in motions[:2]}
    paths = [draw_path(rng, motion, frames) for motion in motions]
    group = 3 if cue == 'relation' or 'following' in names else 0
    offsets = paths[0].offsets * 0.8
    for k in range(group):
        paths[k] = paths[k]._replace(offsets=offsets)
    if cue == 'motion':
        # What one twin does must not show in how the other never looks.
        for k, motion in enumerate(motions[:2]):
            if motion.name != 'turning' and 'turning' in names:
                angle = rng.uniform(-np.pi, np.pi)
                paths[k] = paths[k]._replace(angles=np.full(frames, angle))
            if motion.name == 'turning':
                scale = rng.uniform(0.65, 1.35)
                paths[k] = paths[k]._replace(scales=np.full(frames, scale))
    return paths


def _fits(centres: np.ndarray, reach: np.ndarray, extent: np.ndarray) -> bool:
    """Tell whether a path keeps inside the frame."""
    edge = reach[:, None] * _MARGIN
    return bool((centres >= edge).all() and (centres <= extent - edge).all())


def _place(
    rng: np.random.Generator, path: Path, radius: float, extent: np.ndarray
) -> np.ndarray | None:
    """Draw where a path lies, shape (T, 2); None if it does not fit."""
    edge = (radius * path.scales * _MARGIN)[:, None]
    low = (edge - path.offsets).max(axis=0)
    high = (extent - edge - path.offsets).min(axis=0)
    if (low > high).any():
        return None
    return rng.uniform(low, high) + path.offsets


def _place_group(
    rng: np.random.Generator,
    paths: list[Path],
    radii: Sequence[float],
    sides: np.ndarray,
    apart: float,
    extent: np.ndarray,
) -> list[np.ndarray] | None:
    """Put two twins on either side of the third object.

    Args:
        rng: Random stream.
        paths: Of the twins and the third object, the same for all.
        radii: Of the three.
        sides: Direction from the third object to the first twin, shape (2,).
        apart: Distance of centres in sums of radii.
        extent: Size (x, y) of the frame.
    """
    across = np.abs(sides[::-1])
    shifts = []
    for k, sign in enumerate((1, -1)):
        gap = apart * (radii[k] + radii[2]) + rng.uniform(0, 0.04)
        shifts.append(sign * gap * sides + rng.uniform(-0.06, 0.06) * across)
    shifts.append(np.zeros(2))
    for _ in range(_TRIES):
        middle = rng.uniform(0, extent)
        placed = [middle + shift + paths[2].offsets for shift in shifts]
        if all(
            _fits(centres, radius * path.scales, extent)
            for centres, radius, path in zip(
                placed, radii, paths, strict=False
            )
        ):
            return placed
    return None


def _is_free(
    new: np.ndarray,
    reach: np.ndarray,
    others: Sequence[tuple[np.ndarray, np.ndarray]],
) -> bool:
    """Tell whether an object hides others, or is hidden, seldom enough."""
    for centres, other in others:
        ratio = np.linalg.norm(new - centres, axis=1) / (reach + other)
        if (ratio < 0.9).mean() > 0.26 or (ratio < 0.45).any():
            return False
    return True


def draw_cast(
    rng: np.random.Generator,
    kinds: Sequence[str],
    frames: int,
    extent: np.ndarray,
    cues: dict[str, float] | None = None,
) -> Cast:
    """Draw the objects of a video.

    Args:
        rng: Random stream.
        kinds: Kinds to draw from.
        frames: Frames T.
        extent: Size (x, y) of the frame in units of its short side.
        cues: Cue -> how often; :data:`CUES` when omitted.
    """
    cues = cues or CUES
    odds = np.array(list(cues.values()))
    cue = str(rng.choice(list(cues), p=odds / odds.sum()))
    while True:
        cast = _try_cast(rng, cue, kinds, frames, extent)
        if cast is not None:
            return cast


def _try_cast(
    rng: np.random.Generator,
    cue: str,
    kinds: Sequence[str],
    frames: int,
    extent: np.ndarray,
) -> Cast | None:
    count = int(rng.choice([3, 4]))
    looks = _draw_looks(rng, cue, kinds, count)
    motions = _draw_motions(rng, cue, count)
    grouped = cue == 'relation' or 'following' in [m.name for m in motions]
    if grouped:
        # three in a row need room
        for look in looks[:3]:
            look['size'] = 'small'
    paths = _draw_paths(rng, cue, motions, frames)
    radii = [rng.uniform(*SIZES[look['size']]) for look in looks]
    if cue != 'size':
        radii[1] = radii[0]
    relations: tuple[str, ...] = ()
    placed: list[np.ndarray] = []
    if grouped:
        side, apart = motions[0].direction, 1.04
        if cue == 'relation':
            relation = str(rng.choice(list(RELATIONS)))
            relations = relation, RELATIONS[relation]
            side = relation
            if relation in ('behind', 'before'):
                side, apart = _others(rng, tuple(DIRECTIONS)), 0.58
        elif motions[0].name == 'following':
            side = {'left': 'right', 'right': 'left'}[side]
        group = _place_group(
            rng, paths, radii, np.array(_SIDES[side]), apart, extent
        )
        if group is None:
            return None
        placed = group
    reach = [r * path.scales for r, path in zip(radii, paths, strict=True)]
    for k in range(len(placed), count):
        for _ in range(_TRIES):
            centres = _place(rng, paths[k], radii[k], extent)
            if centres is None:
                return None
            known = list(zip(placed, reach, strict=False))
            if _is_free(centres, reach[k], known):
                placed.append(centres)
                break
        else:
            return None
    depths = list(rng.permutation(count))
    if relations[:1] in (('behind',), ('before',)):
        # the third object stands between the twins
        low, middle, high = sorted(depths[:3])
        depths[:3] = low, high, middle
        if relations[0] == 'before':
            depths[:2] = high, low
    mirrored = rng.random(count) < 0.5
    mirrored[1] = mirrored[0]
    return Cast(
        cue,
        tuple(
            MovingObject(
                **looks[k],
                motion=motions[k],
                radius=float(radii[k]),
                depth=int(depths[k]),
                centres=placed[k],
                angles=paths[k].angles,
                scales=paths[k].scales,
                mirrored=bool(mirrored[k]),
            )
            for k in range(count)
        ),
        relations,
    )
