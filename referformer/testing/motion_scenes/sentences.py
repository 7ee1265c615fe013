# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Sentences that are true of one object of a video."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from referformer.testing.motion_scenes.cast import Cast, MovingObject
from referformer.testing.motion_scenes.looks import LOOKS

#: Motion -> participles, and clauses after "that".
MOTION_PHRASES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    'left': (
        ('moving left', 'moving to the left', 'going left'),
        ('moves left', 'moves to the left'),
    ),
    'right': (
        ('moving right', 'moving to the right', 'going right'),
        ('moves right', 'moves to the right'),
    ),
    'up': (
        ('moving up', 'going up', 'rising'),
        ('moves up', 'goes up', 'rises'),
    ),
    'down': (
        ('moving down', 'going down', 'sinking'),
        ('moves down', 'goes down', 'sinks'),
    ),
    'still': (
        ('standing still', 'not moving'),
        ('stands still', 'does not move'),
    ),
    'fast': (('moving fast', 'going fast'), ('moves fast', 'is fast')),
    'slow': (('moving slowly', 'going slowly'), ('moves slowly', 'is slow')),
    'turning': (('turning', 'turning round'), ('turns', 'turns round')),
    'growing': (('growing', 'getting bigger'), ('grows', 'gets bigger')),
    'shrinking': (
        ('shrinking', 'getting smaller'),
        ('shrinks', 'gets smaller'),
    ),
    'bouncing': (('bouncing', 'hopping'), ('bounces', 'hops')),
    'circling': (
        ('circling', 'going round in a circle'),
        ('circles', 'goes round in a circle'),
    ),
    'stopping': (
        ('stopping', 'coming to a stop'),
        ('stops', 'comes to a stop'),
    ),
    'starting': (
        ('starting to move', 'setting off'),
        ('starts to move', 'sets off'),
    ),
    'following': (('following', 'chasing'), ('follows', 'chases')),
    'leading': (
        ('followed by', 'chased by'),
        ('is followed by', 'is chased by'),
    ),
}
#: Relation -> ways to say it, before the other object.
RELATION_PHRASES = {
    'left': ('left of', 'to the left of', 'on the left of'),
    'right': ('right of', 'to the right of', 'on the right of'),
    'above': ('above', 'over'),
    'below': ('below', 'under'),
    'behind': ('behind', 'partly hidden by'),
    'before': ('in front of', 'partly hiding'),
}
#: Nouns where the kind is not mentioned.
NOUNS = ('object', 'thing')


class Expression(NamedTuple):
    """A sentence about an object.

    Attributes:
        text: The sentence.
        obj_id: Number of the object, counted from 1.
        mentions: What it mentions, in the order size, pattern, colour, kind,
            motion, relation.
        cue: The one of them without which it would be true of a second
            object.
    """

    text: str
    obj_id: int
    mentions: tuple[str, ...]
    cue: str


def denoted_objects(
    objects: Sequence[MovingObject], said: Mapping[str, str]
) -> list[int]:
    """Return the numbers of the objects of which all that is said is true.

    Args:
        objects: Of a video.
        said: Attribute -> value. Motions are taken in a broad sense: an
            object that stops after moving left also moves left.
    """
    return [
        number
        for number, obj in enumerate(objects, start=1)
        if all(
            value in obj.motion.truths
            if name == 'motion'
            else value == getattr(obj, name)
            for name, value in said.items()
        )
    ]


def _pick(rng: np.random.Generator, values: Sequence[str]) -> str:
    return str(rng.choice(list(values)))


def _noun_phrase(
    rng: np.random.Generator, said: Mapping[str, str], article: str = 'the'
) -> list[str]:
    noun = said.get('kind') or _pick(rng, NOUNS)
    front = [said[name] for name in LOOKS[:3] if name in said]
    words = [article, *front, noun]
    if article == 'a' and words[1][0] in 'aeiou':
        words[0] = 'an'
    return words


def _sentence(
    rng: np.random.Generator,
    said: Mapping[str, str],
    relation: str = '',
    other: Sequence[str] = (),
) -> str:
    """Put into words what is said.

    Args:
        rng: Random stream.
        said: Attribute -> value.
        relation: Key of :data:`RELATION_PHRASES`, if any.
        other: Words for the other object of a relation or a motion.
    """
    looks = {name: said[name] for name in LOOKS if name in said}
    article = 'the' if rng.random() < 0.8 else 'a'
    link = _pick(rng, ('that', 'which'))
    behind = [name for name in ('size', 'colour', 'pattern') if name in looks]
    plain = not relation and 'motion' not in said
    if plain and behind and rng.random() < 0.2:
        last = looks.pop(_pick(rng, behind))
        return ' '.join([*_noun_phrase(rng, looks, article), link, 'is', last])
    words = _noun_phrase(rng, looks, article)
    if relation:
        if rng.random() < 0.25:
            words += [link, 'is']
        words += [_pick(rng, RELATION_PHRASES[relation]), *other]
    elif 'motion' in said:
        participles, clauses = MOTION_PHRASES[said['motion']]
        if rng.random() < 0.4:
            words += [link, _pick(rng, clauses)]
        else:
            words += [_pick(rng, participles)]
        if said['motion'] in ('following', 'leading'):
            words += other
    return ' '.join(words)


def _complete(
    rng: np.random.Generator,
    objects: Sequence[MovingObject],
    number: int,
    base: Sequence[str],
    wanted: Sequence[int],
) -> tuple[str, ...]:
    """Add looks to ``base`` until only ``wanted`` objects have them all."""
    own = objects[number - 1].attributes
    names = list(base)
    kind_first = rng.random() < 0.85
    rest = [name for name in ('colour', 'pattern', 'size') if name not in base]
    rng.shuffle(rest)
    rest.sort(key=lambda name: name != 'colour')
    if 'kind' not in base:
        rest.insert(0 if kind_first else len(rest), 'kind')
    extra = rng.random() < 0.2
    for name in rest:
        found = denoted_objects(objects, {n: own[n] for n in names})
        wished = kind_first if name == 'kind' else extra and name == 'colour'
        if wished or not set(found) <= set(wanted):
            names.append(name)
    return tuple(n for n in (*LOOKS, 'motion') if n in names)


def describe(rng: np.random.Generator, cast: Cast) -> list[Expression] | None:
    """Write two sentences for each twin and one for each other object.

    Returns:
        Each true of one object; None if no words tell an object apart.
    """
    objects = cast.objects
    written: list[Expression] = []
    for number, obj in enumerate(objects, start=1):
        twin = number <= 2
        texts: set[str] = set()
        for _ in range(20):
            if len(texts) == (2 if twin else 1):
                break
            relation, other = '', []
            wanted = [number]
            base: tuple[str, ...] = ()
            if twin and cast.cue == 'relation':
                relation = cast.relations[number - 1]
                wanted = [1, 2]
            elif twin:
                base = (cast.cue,)
            names = _complete(rng, objects, number, base, wanted)
            said = {name: obj.attributes[name] for name in names}
            if not set(denoted_objects(objects, said)) <= set(wanted):
                return None
            if relation or obj.motion.name in ('following', 'leading'):
                third = objects[2].looks
                about = _complete(rng, objects, 3, ('kind',), [3])
                named = denoted_objects(objects, {n: third[n] for n in about})
                if named != [3]:
                    return None
                other = _noun_phrase(rng, {n: third[n] for n in about})
            text = _sentence(rng, said, relation, other)
            if text in texts:
                continue
            texts.add(text)
            cue = cast.cue
            if not twin:
                cue = 'kind' if 'kind' in names else 'colour'
            mentions = names + (('relation',) if relation else ())
            written.append(Expression(text, number, mentions, cue))
    return written
