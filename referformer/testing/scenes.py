# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Synthetic referring videos in the Ref-YouTube-VOS layout.

A video shows two to four objects on a textured, slowly moving background. An
object has four attributes, and these are all that an expression may mention:

* colour, one of :data:`COLOURS`;
* shape, one of :data:`SHAPES`;
* size, one of :data:`SIZES` (two classes far apart, nothing in between);
* motion, one of :data:`MOTIONS`, in image coordinates.

The objects of a video share attributes on purpose (see :func:`_draw_cast`):
in most videos naming one attribute is ambiguous and only the combination
points at a single object. Every expression is checked against all objects of
its video before it is written.

Everything is a pure function of :class:`SyntheticParams`: video ``i`` of a
split has its own random stream ``(seed, split, i)``. A larger set therefore
begins with the videos of a smaller one, and train and valid never share a
stream.
"""

import dataclasses
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

#: Version of the drawing rules. Raise it whenever the pixels or expressions
#: made from the same parameters change, so that old sets are not reused.
VERSION = 1

#: Colour name -> RGB.
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
#: Shapes, told apart by silhouette alone; the most different ones first.
SHAPES = ('circle', 'triangle', 'cross', 'square', 'star', 'ring')
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
#: How often the two objects of a pair (``objects=2``) differ in an attribute:
#: the more often, the harder it is to learn.
PAIR_ODDS = {'colour': 0.1, 'shape': 0.55, 'size': 0.3, 'motion': 0.05}
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

MANIFEST = 'synthetic.json'
SPLITS = ('train', 'valid')
# Frame numbers step by five, as in the real data: code that takes a frame's
# position for its name breaks here and not on the day of the real training.
_FRAME_STEP = 5
# Size at which a drawn scene is judged before it is rendered.
_JUDGE_SHORT_SIDE = 96
# A frame counts as showing an object when this part of the whole, unclipped
# and unoccluded, silhouette is visible.
_SEEN_FRACTION = 0.4
_MIN_SEEN_FRAMES = 1 / 3
# A scene whose objects are not visible enough is drawn again; the limit only
# guards against absurd frame sizes.
_MAX_ATTEMPTS = 500


@dataclasses.dataclass(frozen=True)
class SyntheticParams:
    """What determines a synthetic set completely.

    Args:
        train_videos: Number of training videos.
        valid_videos: Number of validation videos.
        frames: Frames of every video.
        height: Frame height in pixels, at least 32.
        width: Frame width in pixels, at least 32.
        seed: Seed of all random streams, not negative.
        colours: How many colours appear: the first ones of :data:`COLOURS`.
        shapes: How many shapes appear: the first ones of :data:`SHAPES`.
        objects: Most objects in a video, 2 to 4. With 2, every video shows a
            pair that differs in one attribute: an easy set to begin with.

    Raises:
        ValueError: If a value is out of its range.
    """

    train_videos: int = 300
    valid_videos: int = 40
    frames: int = 8
    height: int = 96
    width: int = 160
    seed: int = 0
    colours: int = len(COLOURS)
    shapes: int = len(SHAPES)
    objects: int = 4

    def __post_init__(self) -> None:
        limits = {
            'train_videos': 0,
            'valid_videos': 0,
            'frames': 1,
            'height': 32,
            'width': 32,
            'seed': 0,
            'colours': 2,
            'shapes': 2,
            'objects': 2,
        }
        for name, least in limits.items():
            value = getattr(self, name)
            if value < least:
                raise ValueError(
                    f'{name} is {value}; it must be at least {least}.'
                )
        for name, most in (
            ('colours', len(COLOURS)),
            ('shapes', len(SHAPES)),
            ('objects', 4),
        ):
            value = getattr(self, name)
            if value > most:
                raise ValueError(
                    f'{name} is {value}; it must be at most {most}.'
                )

    def videos(self, split: str) -> int:
        """Return the number of videos of ``split``."""
        return self.train_videos if split == 'train' else self.valid_videos


@dataclasses.dataclass(frozen=True)
class Expression:
    """A sentence and the attributes it mentions.

    Args:
        text: The sentence.
        obj_id: The one object it denotes, counted from 1.
        mentions: Names of the attributes it uses.
    """

    text: str
    obj_id: int
    mentions: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class SyntheticObject:
    """One object: its attributes and how it moves and looks.

    Lengths are in units of the frame's short side.

    Args:
        colour: Key of :data:`COLOURS`.
        shape: Member of :data:`SHAPES`.
        size: Key of :data:`SIZES`.
        motion: Key of :data:`MOTIONS`.
        radius: Radius of the circle around the silhouette.
        centres: Centre (x, y) in every frame, shape (T, 2).
        angles: Rotation in radians in every frame, shape (T,).
        tint: Offset added to the RGB colour, shape (3,).
    """

    colour: str
    shape: str
    size: str
    motion: str
    radius: float
    centres: np.ndarray
    angles: np.ndarray
    tint: np.ndarray

    @property
    def attributes(self) -> dict[str, str]:
        """The four attributes by name."""
        return {name: getattr(self, name) for name in ATTRIBUTES}


class SyntheticVideo(NamedTuple):
    """A rendered video with its ground truth.

    Attributes:
        frames: RGB images, uint8, shape (T, H, W, 3).
        ids: Object id of the visible object at each pixel, 0 = background,
            uint8, shape (T, H, W).
        objects: The objects; the first one has id 1.
        expressions: All expressions of the video.
    """

    frames: np.ndarray
    ids: np.ndarray
    objects: list[SyntheticObject]
    expressions: list[Expression]


# --------------------------------------------------------------------------
# Who plays: the attributes of the objects of one video
# --------------------------------------------------------------------------


def _two(rng: np.random.Generator, values: Sequence[str]) -> list[str]:
    """Draw two different values."""
    return [str(v) for v in rng.choice(list(values), 2, replace=False)]


def _one(rng: np.random.Generator, values: Sequence[str]) -> str:
    """Draw one value."""
    return str(rng.choice(list(values)))


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
    shared = {key: _one(rng, values[key]) for key in ATTRIBUTES}
    return [{**shared, name: value} for value in _two(rng, values[name])]


def _draw_cast(
    rng: np.random.Generator, params: SyntheticParams
) -> list[dict[str, str]]:
    """Draw the attributes of the two to four objects of a video.

    The objects sit on the corners of a square spanned by two attributes,
    for example ``{red, blue} x {circle, star}``. With all four corners taken,
    each attribute of each object is shared by a neighbour, so two attributes
    are needed to name any of them. With three, this holds for the one in the
    middle; with two, the objects share one spanning attribute and differ in
    the other. The attributes which do not span the square are mostly equal
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
        'shape': SHAPES[: params.shapes],
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
    a, b = _two(rng, values[first]), _two(rng, values[second])

    counts, shares = [2, 3, 4], np.array([0.2, 0.3, 0.5])
    shares = shares * (np.array(counts) <= params.objects)
    count = int(rng.choice(counts, p=shares / shares.sum()))
    # The three-object video drops the corner opposite to the middle one.
    corners = [(0, 0), (0, 1), (1, 0), (1, 1)]
    if count == 3:
        corners = corners[:3]
    elif count == 2:
        corners = [(0, 0), (0, 1) if rng.random() < 0.5 else (1, 0)]

    shared = {name: _one(rng, values[name]) for name in ATTRIBUTES}
    cast = []
    for i, j in corners:
        member = dict(shared)
        # Motion and colour vary freely in some videos, so that "all others
        # are equal" is no hint.
        if rng.random() < 0.5:
            member['motion'] = _one(rng, values['motion'])
        member[first] = a[i]
        member[second] = b[j]
        cast.append(member)
    order = rng.permutation(len(cast))
    return [cast[k] for k in order]


# --------------------------------------------------------------------------
# Where they go
# --------------------------------------------------------------------------


def _unit_polygon(shape: str) -> np.ndarray:
    """Return the outline of a shape inside the unit circle, shape (P, 2)."""
    if shape in ('circle', 'ring'):
        turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        return np.stack([np.cos(turn), np.sin(turn)], axis=1)
    if shape == 'square':
        return np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / np.sqrt(2)
    if shape == 'triangle':
        turn = -np.pi / 2 + np.arange(3) * 2 * np.pi / 3
        return np.stack([np.cos(turn), np.sin(turn)], axis=1)
    if shape == 'star':
        turn = -np.pi / 2 + np.arange(10) * np.pi / 5
        radius = np.where(np.arange(10) % 2 == 0, 1.0, 0.46)
        return np.stack([np.cos(turn), np.sin(turn)], axis=1) * radius[:, None]
    if shape == 'cross':
        w, e = 0.34, 0.94
        half = [(-w, -e), (w, -e), (w, -w), (e, -w), (e, w), (w, w)]
        return np.array(half + [(-x, -y) for x, y in half])
    raise ValueError(f'Unknown shape {shape!r}; choose one of {SHAPES}.')


_RING_HOLE = 0.52


def _unit_area(shape: str) -> float:
    """Return the area of a shape inside the unit circle."""
    x, y = _unit_polygon(shape).T
    area = abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
    return area * (1 - _RING_HOLE**2) if shape == 'ring' else area


def _draw_path(
    rng: np.random.Generator,
    motion: str,
    radius: float,
    frames: int,
    extent: np.ndarray,
) -> np.ndarray:
    """Draw the centres of an object over time.

    A moving object crosses a good part of the frame in a straight line. One
    in three of them enters the frame from outside or leaves it.

    Args:
        rng: Random stream of the video.
        motion: Key of :data:`MOTIONS`.
        radius: Radius in units of the short side.
        frames: Number of frames T.
        extent: Frame size (x, y) in units of the short side, shape (2,).

    Returns:
        Centres (x, y), shape (T, 2).
    """
    time = np.linspace(0, 1, frames) if frames > 1 else np.zeros(1)
    inset = np.minimum(0.75 * radius, 0.45 * extent)
    start = rng.uniform(inset, extent - inset)
    # A little unsteadiness; far below the length of a real motion.
    phase = rng.uniform(0, 2 * np.pi, 2)
    wobble = 0.008 * np.sin(2 * np.pi * time[:, None] + phase)
    if motion == 'still':
        return start + wobble
    direction = np.asarray(MOTIONS[motion])
    axis = 0 if direction[0] else 1
    length = extent[axis]
    kind = _one(rng, ('inside', 'inside', 'inside', 'inside', 'enter', 'exit'))
    if kind == 'inside':
        room = length - 2 * inset[axis]
        travel = room * rng.uniform(0.55, 0.95)
        begin = inset[axis] + rng.uniform(0, room - travel)
    else:
        # Fully outside for the first part, or, played backwards, the last.
        depth = length * rng.uniform(0.5, 0.75) + 1.1 * radius
        hidden = rng.uniform(0.05, 0.45)
        travel = depth / (1 - hidden)
        begin = -1.1 * radius - hidden * travel
        if kind == 'exit':
            begin = length - (begin + travel)
    along = begin + travel * time
    if direction[axis] < 0:
        along = length - along
    centres = np.repeat(start[None], frames, axis=0)
    centres[:, axis] = along
    return centres + wobble


def _draw_object(
    rng: np.random.Generator,
    attributes: dict[str, str],
    frames: int,
    height: int,
    width: int,
) -> SyntheticObject:
    """Draw size, path and look of an object with given attributes."""
    short = min(height, width)
    extent = np.array([width, height]) / short
    fraction = rng.uniform(*SIZES[attributes['size']])
    area = fraction * extent.prod()
    radius = float(np.sqrt(area / _unit_area(attributes['shape'])))
    radius = min(radius, 0.36)
    time = np.linspace(0, 1, frames) if frames > 1 else np.zeros(1)
    swing = rng.uniform(-0.18, 0.18, 2)
    return SyntheticObject(
        **attributes,
        radius=radius,
        centres=_draw_path(rng, attributes['motion'], radius, frames, extent),
        angles=swing[0] + swing[1] * time,
        tint=rng.uniform(-10, 10, 3),
    )


# --------------------------------------------------------------------------
# Drawing
# --------------------------------------------------------------------------

_SUBPIXEL_BITS = 4


def _fill(
    canvas: np.ndarray, points: np.ndarray, value: int, thickness: int = 0
) -> None:
    """Draw an anti-aliased polygon (filled, or outlined) on ``canvas``.

    Args:
        canvas: Image to draw on, uint8, shape (H, W).
        points: Corners (x, y) in pixels, shape (P, 2).
        value: Grey value.
        thickness: Width of the outline; 0 fills the polygon.
    """
    fixed = np.round(points * (1 << _SUBPIXEL_BITS)).astype(np.int32)
    if thickness:
        cv2.polylines(
            canvas,
            [fixed],
            True,
            value,
            thickness,
            cv2.LINE_AA,
            shift=_SUBPIXEL_BITS,
        )
    else:
        cv2.fillPoly(canvas, [fixed], value, cv2.LINE_AA, shift=_SUBPIXEL_BITS)


def _draw_alpha(
    obj: SyntheticObject, frame: int, short: int, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one object's coverage and outline in one frame.

    Args:
        obj: The object.
        frame: Frame index.
        short: Short side of the frame in pixels.
        size: Height and width of the canvas in pixels.

    Returns:
        Coverage and outline, both uint8, shape (H, W), 255 = full.
    """
    angle = obj.angles[frame]
    spin = np.array(
        [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    )
    unit = _unit_polygon(obj.shape) @ spin * obj.radius * short
    # Pixel centres lie on whole numbers for OpenCV.
    centre = obj.centres[frame] * short - 0.5
    cover = np.zeros(size, np.uint8)
    edge = np.zeros(size, np.uint8)
    width = max(1, round(0.012 * short))
    _fill(cover, unit + centre, 255)
    _fill(edge, unit + centre, 255, width)
    if obj.shape == 'ring':
        hole = np.zeros(size, np.uint8)
        _fill(hole, unit * _RING_HOLE + centre, 255)
        cover = cv2.subtract(cover, hole)
        _fill(edge, unit * _RING_HOLE + centre, 255, width)
    return cover, cv2.min(edge, cover)


def _draw_ids(
    objects: Sequence[SyntheticObject], frame: int, height: int, width: int
) -> tuple[np.ndarray, list[int]]:
    """Draw the visible parts, and measure the whole silhouettes.

    Args:
        objects: The objects, the nearest one last.
        frame: Frame index.
        height: Frame height in pixels.
        width: Frame width in pixels.

    Returns:
        Map of object ids, uint8, shape (H, W), and for each object the area
        in pixels of its part inside the frame, occluded or not.
    """
    short = min(height, width)
    ids = np.zeros((height, width), np.uint8)
    areas = []
    for number, obj in enumerate(objects, start=1):
        cover, _ = _draw_alpha(obj, frame, short, (height, width))
        inside = cover > 127
        ids[inside] = number
        areas.append(int(inside.sum()))
    return ids, areas


def _is_acceptable(
    objects: Sequence[SyntheticObject], height: int, width: int
) -> bool:
    """Tell whether every object can be seen well in enough frames.

    Judged at a small size, so that the decision, and with it the scene, does
    not depend on the resolution of the set, only on its aspect ratio.
    """
    short = min(height, width)
    height = round(height * _JUDGE_SHORT_SIDE / short)
    width = round(width * _JUDGE_SHORT_SIDE / short)
    whole = [
        _unit_area(o.shape) * (o.radius * _JUDGE_SHORT_SIDE) ** 2
        for o in objects
    ]
    frames = len(objects[0].angles)
    seen = np.zeros(len(objects), int)
    for frame in range(frames):
        ids, _ = _draw_ids(objects, frame, height, width)
        visible = np.bincount(ids.ravel(), minlength=len(objects) + 1)[1:]
        seen += visible >= _SEEN_FRACTION * np.asarray(whole)
    need = max(
        1 if frames == 1 else 2, int(np.ceil(frames * _MIN_SEEN_FRAMES))
    )
    return bool((seen >= min(need, frames)).all())


def _noise(
    rng: np.random.Generator, cells: tuple[int, int], size: tuple[int, int]
) -> np.ndarray:
    """Return smooth noise in [-1, 1] with ``cells`` blobs, shape ``size``."""
    grid = rng.uniform(-1, 1, (max(cells[0], 2), max(cells[1], 2)))
    return cv2.resize(
        grid.astype(np.float32), size[::-1], interpolation=cv2.INTER_CUBIC
    )


def _draw_background(
    rng: np.random.Generator, frames: int, height: int, width: int
) -> Iterator[np.ndarray]:
    """Yield the background of every frame, float32 RGB, shape (H, W, 3).

    Muted colours with coarse and fine texture and faint stripes, sliding
    under the camera by a few pixels a frame.
    """
    short = min(height, width)
    drift = rng.uniform(-0.16, 0.16, 2) * short
    margin = int(np.ceil(0.17 * short)) + 1
    size = (height + 2 * margin, width + 2 * margin)
    rows, cols = size[0] / short, size[1] / short

    grey = rng.uniform(95, 160)
    base = grey + rng.uniform(-22, 22, 3)
    light = np.zeros(size, np.float32)
    for cells, strength in ((3, 22), (9, 12), (30, 7)):
        light += strength * _noise(
            rng, (round(cells * rows), round(cells * cols)), size
        )
    turn = rng.uniform(0, np.pi)
    wave = rng.uniform(6, 14) * 2 * np.pi / short
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    light += rng.uniform(0, 11) * np.sin(
        wave * (np.cos(turn) * x + np.sin(turn) * y)
    )
    hue = np.stack(
        [_noise(rng, (round(3 * rows), round(3 * cols)), size)] * 3, axis=-1
    ) * rng.uniform(-16, 16, 3)
    canvas = (base + light[..., None] + hue).astype(np.float32)

    for time in np.linspace(-1, 1, frames) if frames > 1 else [0.0]:
        shift = margin + drift * time
        move = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
        yield cv2.warpAffine(
            canvas,
            move,
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT,
        )


def _draw_surface(
    rng: np.random.Generator, obj: SyntheticObject, short: int
) -> np.ndarray:
    """Return the paint of an object, float32 RGB, a square patch.

    Its own colour with a soft sheen and some grain, so that the object is no
    flat patch of one value.
    """
    side = 2 * int(np.ceil(obj.radius * short)) + 5
    paint = np.asarray(COLOURS[obj.colour], np.float32) + obj.tint
    grain = 9 * _noise(rng, (6, 6), (side, side))
    sheen = np.linspace(12, -14, side, dtype=np.float32)[:, None]
    return (paint + (grain + sheen)[..., None]).astype(np.float32)


def _paste(
    image: np.ndarray,
    obj: SyntheticObject,
    surface: np.ndarray,
    frame: int,
) -> np.ndarray:
    """Blend one object onto ``image`` in place.

    Args:
        image: Frame under construction, float32, shape (H, W, 3).
        obj: The object.
        surface: Its paint, shape (S, S, 3).
        frame: Frame index.

    Returns:
        The silhouette inside the frame, bool, shape (H, W).
    """
    height, width = image.shape[:2]
    short = min(height, width)
    cover, edge = _draw_alpha(obj, frame, short, (height, width))
    side = surface.shape[0]
    left, top = np.round(obj.centres[frame] * short - side / 2).astype(int)
    x0, x1 = max(left, 0), min(left + side, width)
    y0, y1 = max(top, 0), min(top + side, height)
    if x0 < x1 and y0 < y1:
        area = np.s_[y0:y1, x0:x1]
        paint = surface[y0 - top : y1 - top, x0 - left : x1 - left]
        # The rim is a darker shade of the object, a lighter one of black.
        rim = paint * 0.55 if obj.colour != 'black' else paint + 70
        share = edge[area].astype(np.float32)[..., None] / 255
        paint = paint * (1 - share) + rim * share
        alpha = cover[area].astype(np.float32)[..., None] / 255
        image[area] = image[area] * (1 - alpha) + paint * alpha
    return cover > 127


# --------------------------------------------------------------------------
# What is said
# --------------------------------------------------------------------------


def denoted_objects(
    objects: Sequence[dict[str, str]],
    attributes: dict[str, str],
) -> list[int]:
    """Return the ids of the objects that have all given attributes.

    Args:
        objects: Attributes of the objects of a video; the first has id 1.
        attributes: The attributes an expression mentions.

    Returns:
        Ids counted from 1, increasing.
    """
    return [
        number
        for number, obj in enumerate(objects, start=1)
        if all(obj[name] == value for name, value in attributes.items())
    ]


def _say(rng: np.random.Generator, mentioned: dict[str, str]) -> str:
    """Put attributes into words, with one of several sentence patterns."""
    noun = mentioned.get('shape') or _one(rng, GENERIC_NOUNS)
    size = mentioned.get('size')
    colour = mentioned.get('colour')
    motion = mentioned.get('motion')
    article = 'the' if rng.random() < 0.75 else 'a'

    # At most one attribute moves behind the noun.
    behind = None
    if rng.random() < 0.3:
        candidates = [name for name in (size, colour) if name]
        behind = _one(rng, candidates) if candidates else None
    front = [word for word in (size, colour) if word and word != behind]
    words = [article, *front, noun]
    if article == 'a' and words[1][0] in 'aeiou':
        words[0] = 'an'
    link = 'that' if rng.random() < 0.6 else 'which'
    if behind is not None:
        if behind == colour and rng.random() < 0.3:
            words += ['in', behind, 'colour']
            if motion:
                words += [_one(rng, MOTION_PHRASES[motion][0])]
            return ' '.join(words)
        words += [link, 'is', behind]
        if motion:
            words += ['and', MOTION_PHRASES[motion][1]]
        return ' '.join(words)
    if motion:
        participles, clause = MOTION_PHRASES[motion]
        if rng.random() < 0.3:
            words += [link, clause]
        else:
            words += [_one(rng, participles)]
    return ' '.join(words)


def _describe(
    rng: np.random.Generator, objects: Sequence[SyntheticObject]
) -> list[Expression]:
    """Write two or three different expressions for every object.

    Each uses a smallest set of attributes that denotes its object alone,
    without motion where appearance suffices; some add one attribute that
    would not have been necessary. An object which one attribute gives away
    gets fewer sentences, so that most sentences need several.

    Raises:
        RuntimeError: If two objects cannot be told apart.
    """
    cast = [obj.attributes for obj in objects]
    written = []
    for number, own in enumerate(cast, start=1):
        unique = [
            names
            for count in range(1, len(ATTRIBUTES) + 1)
            for names in itertools.combinations(ATTRIBUTES, count)
            if denoted_objects(cast, {n: own[n] for n in names}) == [number]
        ]
        if not unique:
            raise RuntimeError(f'Object {number} has a double: {own}.')
        quiet = [names for names in unique if 'motion' not in names]
        pool = quiet or unique
        shortest = [n for n in pool if len(n) == len(pool[0])]
        texts: set[str] = set()
        wanted = 2 if len(shortest[0]) == 1 else 3
        while len(texts) < wanted:
            names = shortest[int(rng.integers(len(shortest)))]
            # "the red one" alone sounds odd and teaches little: sentences
            # usually name the shape as well.
            extras = [
                name
                for name in ('colour', 'shape', 'size')
                if name not in names
            ]
            if extras and rng.random() < (0.7 if len(names) == 1 else 0.25):
                names = (*names, _one(rng, extras))
            names = tuple(n for n in ATTRIBUTES if n in names)
            mentioned = {name: own[name] for name in names}
            if denoted_objects(cast, mentioned) != [number]:
                raise RuntimeError(f'{mentioned} does not denote {number}.')
            text = _say(rng, mentioned)
            if text not in texts:
                texts.add(text)
                written.append(Expression(text, number, names))
    return written


# --------------------------------------------------------------------------
# Videos and sets
# --------------------------------------------------------------------------


def render_video(
    params: SyntheticParams, split: str, index: int
) -> SyntheticVideo:
    """Make one video.

    Args:
        params: Parameters of the set.
        split: ``'train'`` or ``'valid'``.
        index: Number of the video within the split.

    Returns:
        The frames, ids, objects and expressions.

    Raises:
        RuntimeError: If no scene with visible objects could be drawn.
    """
    rng = np.random.default_rng([params.seed, SPLITS.index(split), index])
    height, width = params.height, params.width
    for _ in range(_MAX_ATTEMPTS):
        cast = _draw_cast(rng, params)
        objects = [
            _draw_object(rng, member, params.frames, height, width)
            for member in cast
        ]
        if _is_acceptable(objects, height, width):
            break
    else:
        raise RuntimeError(
            f'Found no scene for {width}x{height} frames in '
            f'{_MAX_ATTEMPTS} attempts; use a less extreme aspect ratio.'
        )
    expressions = _describe(rng, objects)

    short = min(height, width)
    surfaces = [_draw_surface(rng, obj, short) for obj in objects]
    frames = np.empty((params.frames, height, width, 3), np.uint8)
    ids = np.zeros((params.frames, height, width), np.uint8)
    backdrop = _draw_background(rng, params.frames, height, width)
    for t, image in enumerate(backdrop):
        for number, obj in enumerate(objects, start=1):
            inside = _paste(image, obj, surfaces[number - 1], t)
            ids[t][inside] = number
        image += rng.normal(0, 2.5, image.shape).astype(np.float32)
        frames[t] = image.clip(0, 255).round()
    return SyntheticVideo(frames, ids, objects, expressions)


def _palette() -> list[int]:
    """Return 256 RGB triples for id maps: the colours of this module."""
    colours = [(0, 0, 0), (220, 60, 60), (70, 190, 90), (230, 200, 60)]
    colours += [(80, 120, 230), (200, 90, 210), (80, 210, 220)]
    colours += [(c, c, c) for c in range(len(colours), 256)]
    return [value for colour in colours for value in colour]


def _write_video(
    video: SyntheticVideo, folder: Path, video_id: str
) -> tuple[dict, dict]:
    """Write frames and masks; return the entries for the two json files."""
    images = folder / 'JPEGImages' / video_id
    masks = folder / 'Annotations' / video_id
    images.mkdir(parents=True)
    masks.mkdir(parents=True)
    names = [f'{_FRAME_STEP * t:05d}' for t in range(len(video.frames))]
    palette = _palette()
    for name, frame, ids in zip(names, video.frames, video.ids, strict=True):
        path = images / f'{name}.jpg'
        quality = [cv2.IMWRITE_JPEG_QUALITY, 95]
        if not cv2.imwrite(str(path), frame[..., ::-1], quality):
            raise OSError(f'Could not write {path}; is the disk full?')
        picture = Image.fromarray(ids)
        picture.putpalette(palette)
        picture.save(masks / f'{name}.png')

    meta = {
        'objects': {
            str(number): {
                'category': obj.shape,
                'frames': [
                    name
                    for name, ids in zip(names, video.ids, strict=True)
                    if (ids == number).any()
                ],
                'attributes': obj.attributes,
            }
            for number, obj in enumerate(video.objects, start=1)
        }
    }
    spoken = {
        'expressions': {
            str(number): {
                'exp': expression.text,
                'obj_id': str(expression.obj_id),
                'mentions': list(expression.mentions),
            }
            for number, expression in enumerate(video.expressions)
        },
        'frames': names,
    }
    return meta, spoken


def _write_json(content: dict, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + '\n', encoding='utf-8')


def _manifest(params: SyntheticParams) -> dict:
    return {'version': VERSION, 'params': dataclasses.asdict(params)}


def _is_ready(out: Path, params: SyntheticParams) -> bool:
    """Tell whether ``out`` already holds exactly the wanted set.

    Raises:
        FileExistsError: If ``out`` holds anything else.
    """
    if not out.exists():
        return False
    if out.is_dir() and not any(out.iterdir()):
        return False
    path = out / MANIFEST
    if not path.is_file():
        raise FileExistsError(
            f'{out} exists and is no synthetic set (it has no {MANIFEST}); '
            'choose another folder.'
        )
    try:
        found = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise FileExistsError(
            f'{path} is not readable ({error}); remove {out} to make the set '
            'again.'
        ) from error
    if found != _manifest(params):
        raise FileExistsError(
            f'{out} holds another synthetic set ({found}); wanted '
            f'{_manifest(params)}. Remove it or choose another folder.'
        )
    return True


def make_synthetic_rvos(
    out: str | os.PathLike,
    params: SyntheticParams | None = None,
    progress: bool = True,
) -> Path:
    """Write a synthetic set, or reuse the identical one that is there.

    The set appears under its name only when it is complete.

    Args:
        out: Folder of the set.
        params: Parameters; the defaults when omitted.
        progress: Whether to show a progress bar.

    Returns:
        The folder of the set.

    Raises:
        FileExistsError: If ``out`` exists and holds something else.
    """
    params = params or SyntheticParams()
    out = Path(out)
    if _is_ready(out, params):
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f'.{out.name}-', dir=out.parent))
    try:
        total = params.train_videos + params.valid_videos
        bar = tqdm(
            total=total,
            desc=f'Drawing {out.name}',
            unit='video',
            mininterval=0.5,
            disable=not progress,
        )
        for split in SPLITS:
            (work / split / 'JPEGImages').mkdir(parents=True)
            (work / split / 'Annotations').mkdir()
            metas, spokens = {}, {}
            for index in range(params.videos(split)):
                video_id = f'{split}-{index:05d}'
                metas[video_id], spokens[video_id] = _write_video(
                    render_video(params, split, index), work / split, video_id
                )
                bar.update()
            _write_json({'videos': metas}, work / split / 'meta.json')
            _write_json(
                {'videos': spokens},
                work / 'meta_expressions' / split / 'meta_expressions.json',
            )
        bar.close()
        _write_json(_manifest(params), work / MANIFEST)
        work.chmod(0o755)
        try:
            work.replace(out)
        except OSError:
            # Somebody else was faster; fine if it is the same set.
            if not _is_ready(out, params):
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return out
