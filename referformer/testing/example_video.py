# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""A drawn video with sentences, to try the example model on."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from referformer.evaluation.functional import region_similarity
from referformer.testing.motion_scenes import MotionSceneParams, render_scene
from referformer.visualization import ReferLocalVisualizer
from referformer.visualization.drawing import contrasting_colours, enlarge

#: Sentences about a video: one about each twin, one about another object.
_NUMBER_OF_TEXTS = 3


class ExampleVideo(NamedTuple):
    """A video that no model was trained on.

    Attributes:
        number: The number it was drawn with.
        frames: BGR, uint8, shape (T, H, W, 3).
        texts: E sentences about different objects.
        masks: The objects of the sentences, bool, shape (E, T, H, W).
    """

    number: int
    frames: np.ndarray
    texts: list[str]
    masks: np.ndarray

    @property
    def name(self) -> str:
        """Its name, for files."""
        return f'example-{self.number}'

    def overlaps(self, found: Sequence[np.ndarray]) -> list[float]:
        """Return J of each sentence, the mean over the frames.

        Args:
            found: E predicted masks, bool, shape (T, H, W) each.
        """
        return [
            float(np.mean(list(map(region_similarity, masks, true))))
            for masks, true in zip(found, self.masks, strict=True)
        ]

    def draw(
        self, found: Sequence[np.ndarray], scale: int = 2
    ) -> list[np.ndarray]:
        """Draw the frames with masks, and the sentences in their colours.

        Args:
            found: E predicted masks, bool, shape (T, H, W) each.
            scale: How many times to enlarge.

        Returns:
            T pictures, RGB, uint8, shape (h + strip, w, 3).
        """
        frames = self.frames[..., ::-1]
        colours = contrasting_colours(frames[0], [each[0] for each in found])
        return [
            ReferLocalVisualizer().draw_expressions(
                enlarge(frame, scale, cv2.INTER_CUBIC),
                self.texts,
                [enlarge(mask, scale) for mask in masks],
                colours=colours,
            )
            for frame, *masks in zip(frames, *found, strict=True)
        ]

    def explain(
        self, found: Sequence[np.ndarray], files: Mapping[str, str]
    ) -> str:
        """Say what there is to see.

        Args:
            found: E predicted masks, bool, shape (T, H, W) each.
            files: Kind -> file written, with an overlay and a still.
        """
        return (
            'This video was drawn just now; the example model was trained on '
            f'others.\nLook at {files["still"]}, or play {files["overlay"]}.\n'
            'Each sentence has the colour of its mask. The first two objects '
            'look alike:\nonly their motion tells them apart. Overlap with '
            'the true objects, J of 100: '
            f'{", ".join(f"{100 * j:.0f}" for j in self.overlaps(found))}.\n'
            f'This video again: python tools/demo.py --example {self.number}\n'
            'What the model knows, and how well: docs/example_model.md'
        )


def draw_example(number: int, cue: str = 'motion') -> ExampleVideo:
    """Draw a video; two of its objects differ in one cue alone.

    Args:
        number: Another number gives another video. It is one of the videos
            for scoring, hence none of those for training.
        cue: A key of ``motion_scenes.cast.CUES``, such as ``'colour'``.
    """
    params = MotionSceneParams(seed=number, cue=cue)
    scene = render_scene(params, 'valid', 0)
    texts: dict[int, str] = {}
    for expression in scene.expressions:
        texts.setdefault(expression.obj_id, expression.text)
    chosen = sorted(texts)[:_NUMBER_OF_TEXTS]
    return ExampleVideo(
        number,
        np.ascontiguousarray(scene.frames[..., ::-1]),
        [texts[obj_id] for obj_id in chosen],
        np.stack([scene.ids == obj_id for obj_id in chosen]),
    )
