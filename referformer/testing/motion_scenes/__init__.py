# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Drawn videos whose expressions need motion and relations.

A video shows three or four objects before a landscape. The first two are
twins: they differ in one cue alone, and their expressions name it. Motions
are mostly pairs of which one is the other played backwards, so that no single
frame, and no set of frames without their order, tells the twins apart.

A set is a pure function of :class:`MotionSceneParams`. ``kinds`` and
``looks`` hold what can be drawn, ``paths`` the motions; ``cast`` chooses and
places objects, ``sentences`` describes them, ``rendering`` draws.
"""

from referformer.testing.motion_scenes.params import MotionSceneParams
from referformer.testing.motion_scenes.rendering import (
    MotionScene,
    render_scene,
)
from referformer.testing.motion_scenes.sentences import (
    Expression,
    denoted_objects,
)

__all__ = [
    'Expression',
    'MotionScene',
    'MotionSceneParams',
    'denoted_objects',
    'render_scene',
]
