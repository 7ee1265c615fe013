# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Transforms that touch the expression."""

import re

from mmcv.transforms import BaseTransform
from mmdet.datasets.transforms import RandomFlip

from referformer.registry import TRANSFORMS

_SIDES = {'left': 'right', 'right': 'left'}
# Any "left" and "right", also within words ("leftside", "left2", "topleft"),
# except in words that mean no side, as "bright", "upright" and "leftover".
_SIDE_WORD = re.compile(
    r"""
    (?<![bfw]) (?<!\bup) (?<!\ba) (?<!\bal) (?<!\ball) (?<!\bout)
    (?<!\bdown) (?<!\bcopy) (?<!\bbirth) (?<!\bforth)
    right (?! eous | ful )
    | (?<!\bc) left (?! -?overs? )
    """,
    flags=re.IGNORECASE | re.VERBOSE,
)


def normalize_text(text: str) -> str:
    """Return ``text`` in lower case with single spaces."""
    return ' '.join(text.lower().split())


def swap_sides(text: str) -> str:
    """Exchange left and right in ``text``.

    As in the published loaders within words too ("leftside", "lefty"), with
    one exception: these turn "bright" into "bleft" as well, and here words
    that mean no side stay.
    """

    def mirrored(match: re.Match) -> str:
        word = match.group()
        other = _SIDES[word.lower()]
        if word.isupper():
            return other.upper()
        return other.capitalize() if word[0].isupper() else other

    return _SIDE_WORD.sub(mirrored, text)


@TRANSFORMS.register_module()
class NormalizeText(BaseTransform):
    """Bring the expression into lower case with single spaces.

    Modified key: ``text``, a str, or that of each of the ``expressions``;
    use it before the frames are sampled, or inside a
    ``TransformBroadcaster``.
    """

    def transform(self, results: dict) -> dict:
        """Normalise ``text``."""
        if 'expressions' in results:
            results['expressions'] = [
                {**expression, 'text': normalize_text(expression['text'])}
                for expression in results['expressions']
            ]
        else:
            results['text'] = normalize_text(results['text'])
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'


@TRANSFORMS.register_module()
class ReferRandomFlip(RandomFlip):
    """Flip a frame, its boxes and masks, and keep its expression true.

    A horizontal flip exchanges left and right in ``text`` (see
    :func:`swap_sides`). Use it inside a ``TransformBroadcaster`` with
    ``share_random_params=True``, so that all frames of the clip agree.

    Args: see :class:`mmdet.datasets.transforms.RandomFlip`.
    """

    def _flip(self, results: dict) -> None:
        """Flip everything that has a side."""
        super()._flip(results)
        if results['flip_direction'] in ('horizontal', 'diagonal'):
            results['text'] = swap_sides(results['text'])
