# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Distorting colours."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmdet.datasets.transforms import PhotoMetricDistortion

from referformer.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ReferPhotoMetricDistortion(PhotoMetricDistortion):
    """mmdet's colour distortion, returning an image of bytes again.

    Pillow resizes bytes only. Values are clipped to 0..255; the published
    code lets them wrap around, which turns bright spots dark.

    Use it inside a ``TransformBroadcaster`` *without* shared parameters: the
    published training distorts every frame on its own.

    Args:
        swap_channels: Whether the colour channels may change places (half of
            the time they do). It is part of the published recipe, but makes
            "the red one" wrong: turn it off, with ``hue_delta=0``, where
            colours matter.
        **kwargs: Arguments of
            :class:`mmdet.datasets.transforms.PhotoMetricDistortion`.
    """

    def __init__(self, swap_channels: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.swap_channels = swap_channels

    def _random_flags(self) -> Sequence:
        flags = list(super()._random_flags())
        if not self.swap_channels:
            flags[5] = 0
        return flags

    def transform(self, results: dict) -> dict:
        """Distort ``img``."""
        results = super().transform(results)
        image = results['img'].round().clip(0, 255).astype(np.uint8)
        results['img'] = np.ascontiguousarray(image)
        return results
