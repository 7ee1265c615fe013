# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import hashlib
import json

import numpy as np
import pytest

from referformer.errors import ConfigError
from referformer.testing.motion_scenes import (
    MotionSceneParams,
    denoted_objects,
    render_scene,
    rendering,
)
from referformer.testing.motion_scenes.cast import CUES, Cast, draw_cast
from referformer.testing.motion_scenes.kinds import KINDS
from referformer.testing.motion_scenes.looks import COLOURS, PATTERNS
from referformer.testing.motion_scenes.paths import (
    DIRECTIONS,
    MOTIONS,
    TWINS,
    Motion,
    draw_path,
)
from referformer.testing.motion_scenes.rendering import draw_sprite
from referformer.testing.motion_scenes.sentences import describe
from referformer.testing.scenes import make_synthetic_rvos

#: Masks and sentences of a video of a small set.
DIGEST = '8f9424d94422fcaf'
EXTENT = np.array([1.5, 1.0])
SMALL = dict(height=64, width=96)


def casts(cue, count, kinds=10):
    """Casts and their expressions; drawing pixels takes longer."""
    for index in range(count):
        rng = np.random.default_rng([7, index])
        cast = draw_cast(rng, tuple(KINDS)[:kinds], 8, EXTENT, {cue: 1.0})
        expressions = describe(rng, cast)
        if expressions:
            yield cast, expressions


def test_there_is_a_choice():
    assert len(KINDS) >= 10
    assert len(COLOURS) == 10
    assert len(PATTERNS) >= 3
    assert set(MOTIONS) >= {name for pair in TWINS for name in pair}


@pytest.mark.parametrize('cue', CUES)
def test_an_expression_is_true_of_one_object(cue):
    for cast, expressions in casts(cue, 12):
        spoken_of = set()
        for expression in expressions:
            own = cast.objects[expression.obj_id - 1]
            said = {
                name: own.attributes[name]
                for name in expression.mentions
                if name != 'relation'
            }
            found = denoted_objects(cast.objects, said)
            if 'relation' in expression.mentions:
                assert found == [1, 2]
            else:
                assert found == [expression.obj_id]
            if expression.obj_id <= 2:
                assert expression.cue == cue
                assert cue in expression.mentions
            for name in set(expression.mentions) - {'motion', 'relation'}:
                assert said[name] in expression.text.split()
            spoken_of.add(expression.obj_id)
        assert spoken_of == set(range(1, len(cast.objects) + 1))
        assert len({e.text for e in expressions}) == len(expressions)


@pytest.mark.parametrize('cue', CUES)
def test_twins_differ_in_the_cue_alone(cue):
    for cast, _ in casts(cue, 8):
        first, second = (obj.looks for obj in cast.objects[:2])
        assert {n for n in first if first[n] != second[n]} <= {cue}
        if cue in first:
            assert first[cue] != second[cue]


def test_relations_hold_in_every_frame():
    seen = set()
    for cast, _ in casts('relation', 25):
        third = cast.objects[2]
        for twin, relation in zip(cast.objects, cast.relations, strict=False):
            x, y = (twin.centres - third.centres).T
            seen.add(relation)
            depth = twin.depth - third.depth
            holds = {
                'left': (x < -0.25).all(),
                'right': (x > 0.25).all(),
                'above': (y < -0.25).all(),
                'below': (y > 0.25).all(),
                'behind': depth < 0,
                'before': depth > 0,
            }
            assert holds[relation]
            across = y if relation in ('left', 'right') else x
            if relation not in ('behind', 'before'):
                assert (np.abs(across) < 0.1).all()
    assert seen == {'left', 'right', 'above', 'below', 'behind', 'before'}


def test_every_frame_shows_who_is_behind_whom():
    params = MotionSceneParams(cue='relation', seed=5)
    seen = 0
    for index in range(30):
        scene = render_scene(params, 'valid', index)
        relations = {
            e.obj_id: relation
            for e in scene.expressions
            for relation in ('behind', 'hidden', 'front', 'hiding')
            if e.mentions[-1] == 'relation' and relation in e.text
        }
        for twin, relation in relations.items():
            front, back = (twin, 3)
            if relation in ('behind', 'hidden'):
                front, back = (3, twin)
            for t in range(params.frames):
                whole = covers_of(scene, t, params)
                common = whole[front - 1] & whole[back - 1]
                assert common.sum() > 0.1 * whole[back - 1].sum()
            seen += 1
    assert seen >= 10


def covers_of(scene, frame, params):
    """All that an object covers, hidden parts too; without the camera."""
    height, width = 2 * params.height, 2 * params.width
    return rendering._draw_frame(
        np.zeros((height, width, 3), np.float32),
        Cast('relation', scene.objects),
        frame,
        np.zeros(2),
        height,
    )[1]


def test_no_frame_tells_twins_in_motion_apart():
    """They look alike, and what one does is the other played backwards."""
    for cast, expressions in casts('motion', 15):
        first, second = cast.objects[:2]
        assert first.radius == second.radius
        assert first.mirrored == second.mirrored
        for twin, other in ((first, second), (second, first)):
            assert twin.motion.name not in other.motion.truths
        for expression in expressions:
            assert (expression.cue == 'motion') == (expression.obj_id <= 2)
    reverse = {
        ('left', 'right'),
        ('up', 'down'),
        ('growing', 'shrinking'),
        ('stopping', 'starting'),
    }
    assert sum(TWINS[pair] for pair in reverse) > 0.5
    ways = dict(growing='', shrinking='', stopping='left', starting='right')
    for pair in reverse:
        forth, back = (
            draw_path(
                np.random.default_rng(3),
                Motion(name, ways.get(name, name)),
                8,
            )
            for name in pair
        )
        np.testing.assert_allclose(
            forth.offsets, back.offsets[::-1], atol=1e-12
        )
        np.testing.assert_allclose(forth.scales, back.scales[::-1])


@pytest.mark.parametrize('name', MOTIONS)
def test_motion_is_what_it_is_called(name):
    on_the_spot = ('still', 'turning', 'growing', 'shrinking')
    way = name if name in DIRECTIONS else 'right'
    if name in (*on_the_spot, 'bouncing', 'circling'):
        way = ''
    path = draw_path(np.random.default_rng(0), Motion(name, way), 9)
    if name in on_the_spot:
        assert (path.offsets == 0).all()
    steps = np.diff(path.offsets, axis=0)
    speed = np.linalg.norm(steps, axis=1)
    turned = np.abs(np.diff(path.angles))
    holds = {
        **{
            side: (steps @ np.array(DIRECTIONS[side]) > 0.04).all()
            for side in DIRECTIONS
        },
        'fast': speed.min() > 0.1,
        'slow': 0 < speed.max() < 0.04,
        'stopping': (speed[:4] > 0.1).all() and (speed[4:] == 0).all(),
        'starting': (speed[:4] == 0).all() and (speed[4:] > 0.1).all(),
        'still': speed.max() == 0 and turned.max() == 0,
        'turning': turned.min() > 0.3,
        'growing': (np.diff(path.scales) > 0.05).all(),
        'shrinking': (np.diff(path.scales) < -0.05).all(),
        'bouncing': np.ptp(path.offsets[:, 1]) > 0.2,
        'circling': np.ptp(np.linalg.norm(path.offsets, axis=1)) < 1e-9
        and speed.min() > 0.08,
        'following': (steps[:, 0] > 0.04).all(),
        'leading': (steps[:, 0] > 0.04).all(),
    }
    assert holds[name]


def test_followers_come_after():
    found = 0
    for cast, _ in casts('motion', 25):
        first, second, third = cast.objects[:3]
        if 'following' in (first.motion.name, second.motion.name):
            found += 1
            way = np.array(DIRECTIONS[first.motion.direction])
            for twin in (first, second):
                ahead = (twin.centres - third.centres) @ way
                sign = 1 if twin.motion.name == 'leading' else -1
                assert (sign * ahead > 0.2).all()
            steps = np.diff(third.centres, axis=0)
            assert (steps @ way > 0.02).all()
    assert found


def test_pixels_show_what_the_masks_say():
    scene = render_scene(MotionSceneParams(cue='colour'), 'train', 1)
    assert scene.frames.shape == (8, 128, 192, 3)
    assert scene.frames.dtype == np.uint8
    for number, obj in enumerate(scene.objects, start=1):
        mask = scene.ids == number
        assert mask.any(axis=(1, 2)).all()
        area = mask.sum(axis=(1, 2)).max() / (128 * obj.radius) ** 2
        assert 0.5 < area < np.pi
        if obj.pattern == 'plain':
            wanted = np.array(COLOURS[obj.colour])
            near = np.abs(scene.frames[mask] - wanted).max(axis=1) < 45
            assert near.mean() > 0.3


@pytest.mark.parametrize('kind', KINDS)
def test_sprites_fit_and_have_an_outline(kind):
    sprite = draw_sprite(kind, 'yellow', 'plain', False)
    assert 0.1 < sprite.cover.mean() < 0.7
    rim = sprite.cover[[0, -1]].sum() + sprite.cover[:, [0, -1]].sum()
    assert rim == 0
    other = draw_sprite(kind, 'yellow', 'striped', False)
    assert (sprite.cover == other.cover).all()
    assert np.abs(sprite.colour - other.colour).max() > 60
    # anti-aliased: the border is neither inside nor outside
    assert ((sprite.cover > 0.1) & (sprite.cover < 0.9)).sum() > 40


def test_sets_are_reproducible_and_carry_cues(tmp_path):
    params = MotionSceneParams(train_videos=2, valid_videos=1, **SMALL)
    root = make_synthetic_rvos(tmp_path / 'set', params, progress=False)
    path = root / 'meta_expressions/train/meta_expressions.json'
    videos = json.loads(path.read_text())['videos']
    cues = {
        expression['attributes']['cue']
        for video in videos.values()
        for expression in video['expressions'].values()
    }
    assert cues <= set(CUES)
    scene = render_scene(params, 'train', 1)
    texts = [e['exp'] for e in videos['train-00001']['expressions'].values()]
    assert texts == [expression.text for expression in scene.expressions]
    again = render_scene(params, 'train', 1)
    assert (scene.frames == again.frames).all()
    assert (scene.ids == again.ids).all()
    other = render_scene(params, 'valid', 1)
    assert (scene.frames != other.frames).any()
    found = hashlib.sha256(scene.ids.tobytes())
    found.update('\n'.join(texts).encode())
    assert found.hexdigest()[:16] == DIGEST


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        ({'cue': 'smell'}, 'cue'),
        ({'kinds': 99}, 'kinds is 99'),
        ({'frames': 2}, 'frames is 2'),
        ({'width': 64}, 'width is 64'),
    ],
)
def test_parameters_out_of_range_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        MotionSceneParams(**wrong)


def test_unseen_kinds_can_be_drawn():
    params = MotionSceneParams(first_kind=10, kinds=2, **SMALL)
    scene = render_scene(params, 'train', 0)
    assert {obj.kind for obj in scene.objects} <= set(list(KINDS)[10:])
