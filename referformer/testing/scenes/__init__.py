# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Drawn videos with referring expressions, in the Ref-YouTube-VOS layout.

A video shows two to four objects on a textured, slowly moving background. An
object has a colour, a shape, a size and a motion (in image coordinates), and
an expression mentions nothing else. The objects of a video share attributes
on purpose, so that in most videos only a combination of attributes names a
single object. Every expression is checked against all objects of its video.

A set is a pure function of :class:`SyntheticParams`. The steps of a video,
each in its own module, take the same random stream one after the other:
``objects`` (attributes, size, path, look), ``sentences``, ``rendering``.
``shapes`` and ``vocabulary`` hold the tables to extend; ``writing`` makes the
files.
"""

from referformer.testing.scenes.params import SyntheticParams
from referformer.testing.scenes.rendering import SyntheticVideo, render_video
from referformer.testing.scenes.sentences import Expression, denoted_objects
from referformer.testing.scenes.vocabulary import VOCABULARY
from referformer.testing.scenes.writing import MANIFEST, make_synthetic_rvos

__all__ = [
    'MANIFEST',
    'VOCABULARY',
    'Expression',
    'SyntheticParams',
    'SyntheticVideo',
    'denoted_objects',
    'make_synthetic_rvos',
    'render_video',
]
