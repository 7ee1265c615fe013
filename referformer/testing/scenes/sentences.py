# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Expressions, each true of one object of its video."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from referformer.testing.scenes.objects import SyntheticObject
from referformer.testing.scenes.vocabulary import (
    ATTRIBUTES,
    GENERIC_NOUNS,
    MOTION_PHRASES,
    pick,
)


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


def denoted_objects(
    objects: Sequence[dict[str, str]],
    attributes: dict[str, str],
) -> list[int]:
    """Return the ids of the objects that have all given attributes."""
    return [
        number
        for number, obj in enumerate(objects, start=1)
        if all(obj[name] == value for name, value in attributes.items())
    ]


def _to_words(rng: np.random.Generator, mentioned: dict[str, str]) -> str:
    """Put attributes into words, with one of several sentence patterns."""
    noun = mentioned.get('shape') or pick(rng, GENERIC_NOUNS)
    size = mentioned.get('size')
    colour = mentioned.get('colour')
    motion = mentioned.get('motion')
    article = 'the' if rng.random() < 0.75 else 'a'

    # At most one attribute stands after the noun.
    behind = None
    if rng.random() < 0.3:
        candidates = [name for name in (size, colour) if name]
        behind = pick(rng, candidates) if candidates else None
    front = [word for word in (size, colour) if word and word != behind]
    words = [article, *front, noun]
    if article == 'a' and words[1][0] in 'aeiou':
        words[0] = 'an'
    link = 'that' if rng.random() < 0.6 else 'which'
    if behind is not None:
        if behind == colour and rng.random() < 0.3:
            words += ['in', behind, 'colour']
            if motion:
                words += [pick(rng, MOTION_PHRASES[motion][0])]
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
            words += [pick(rng, participles)]
    return ' '.join(words)


def _shortest_descriptions(
    cast: Sequence[dict[str, str]], number: int
) -> list[tuple[str, ...]]:
    """Find the smallest sets of attributes that only one object has.

    Sets with motion are left out where appearance is enough.
    """
    own = cast[number - 1]
    unique = [
        names
        for count in range(1, len(ATTRIBUTES) + 1)
        for names in itertools.combinations(ATTRIBUTES, count)
        if denoted_objects(cast, {n: own[n] for n in names}) == [number]
    ]
    if not unique:
        raise RuntimeError(f'Object {number} is not unique: {own}.')
    pool = [names for names in unique if 'motion' not in names] or unique
    return [names for names in pool if len(names) == len(pool[0])]


def describe(
    rng: np.random.Generator, objects: Sequence[SyntheticObject]
) -> list[Expression]:
    """Write two or three different expressions for every object.

    Each mentions a smallest set of attributes that only its object has; some
    mention one attribute more. An object that one attribute identifies gets
    fewer sentences, so that most sentences need several attributes.
    """
    cast = [obj.attributes for obj in objects]
    written = []
    for number, own in enumerate(cast, start=1):
        shortest = _shortest_descriptions(cast, number)
        texts: set[str] = set()
        wanted = 2 if len(shortest[0]) == 1 else 3
        while len(texts) < wanted:
            names = shortest[int(rng.integers(len(shortest)))]
            # Most sentences with one attribute get a second one: "the red
            # one" is unusual and teaches little.
            extras = [
                name
                for name in ('colour', 'shape', 'size')
                if name not in names
            ]
            if extras and rng.random() < (0.7 if len(names) == 1 else 0.25):
                names = (*names, pick(rng, extras))
            names = tuple(n for n in ATTRIBUTES if n in names)
            text = _to_words(rng, {name: own[name] for name in names})
            if text not in texts:
                texts.add(text)
                written.append(Expression(text, number, names))
    return written
