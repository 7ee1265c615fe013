# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Resizing as the published weights expect it."""

import random
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.transforms import RandomChoice, TransformBroadcaster
from mmcv.transforms.utils import cache_randomness
from mmdet.datasets.transforms import RandomCrop, Resize
from mmdet.structures.bbox import autocast_box_type
from mmdet.structures.mask import BitmapMasks

from referformer.errors import ConfigError
from referformer.registry import TRANSFORMS


def size_with_aspect_ratio(
    size: tuple[int, int], short_side: int, max_long_side: int | None = None
) -> tuple[int, int]:
    """Return the size after resizing the short side.

    Fractions of a pixel are cut off, where mmcv rounds: 854 x 480 becomes
    640 x 360, not 641 x 360.

    Args:
        size: Width and height.
        short_side: Wanted length of the short side.
        max_long_side: Upper limit of the long side, if any; it shrinks the
            short side to match.

    Returns:
        Width and height.
    """
    width, height = size
    short, long = min(size), max(size)
    if max_long_side is not None and long / short * short_side > max_long_side:
        short_side = round(max_long_side * short / long)
    if short == short_side:
        return width, height
    if width < height:
        return short_side, int(short_side * height / width)
    return int(short_side * width / height), short_side


@TRANSFORMS.register_module()
class ReferResize(Resize):
    """Resize the short side of a frame, keeping its aspect ratio.

    Images are resized with Pillow's antialiasing bilinear filter and masks
    by nearest neighbour as PyTorch defines it, both as in the published
    training and evaluation.

    Args:
        short_side: Length of the short side in pixels, or several lengths of
            which one is drawn at random. Inside a ``TransformBroadcaster``
            with ``share_random_params=True`` all frames get the same.
        max_long_side: Upper limit of the long side; ``None`` sets no limit.
        **kwargs: ``clip_object_border``, ``backend`` and ``interpolation``
            of :class:`mmdet.datasets.transforms.Resize`.

    Raises:
        ConfigError: If ``short_side`` is empty or not positive.
    """

    def __init__(
        self,
        short_side: int | Sequence[int],
        max_long_side: int | None = None,
        **kwargs: Any,
    ) -> None:
        sides = [short_side] if isinstance(short_side, int) else short_side
        self.short_sides = tuple(sides)
        if not self.short_sides or min(self.short_sides) < 1:
            raise ConfigError(
                f'short_side is {short_side}; give positive lengths.'
            )
        self.max_long_side = max_long_side
        kwargs.setdefault('backend', 'pillow')
        # The scale of the base class is fixed; ours follows the image.
        super().__init__(scale=1, keep_ratio=False, **kwargs)

    @cache_randomness
    def _draw_short_side(self) -> int:
        return random.choice(self.short_sides)

    @autocast_box_type()
    def transform(self, results: dict) -> dict:
        """Resize ``img``, ``gt_bboxes`` and ``gt_masks``."""
        height, width = results['img'].shape[:2]
        results['scale'] = size_with_aspect_ratio(
            (width, height), self._draw_short_side(), self.max_long_side
        )
        self._resize_img(results)
        self._resize_bboxes(results)
        self._resize_masks(results)
        self._record_homography_matrix(results)
        return results

    def _resize_masks(self, results: dict) -> None:
        """Resize the masks to the size of the image."""
        masks = results.get('gt_masks')
        if masks is None:
            return
        shape = tuple(results['img_shape'])
        resized = masks.masks
        if len(masks):
            resized = F.interpolate(
                torch.from_numpy(resized)[None], size=shape, mode='nearest'
            )[0].numpy()
        results['gt_masks'] = BitmapMasks(resized, *shape)

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(short_side={self.short_sides}, '
            f'max_long_side={self.max_long_side}, backend={self.backend})'
        )


@TRANSFORMS.register_module()
class ReferMultiScaleCrop(RandomChoice):
    """Resize a clip, or resize, crop and resize it, with equal probability.

    This is the scale augmentation of DETR. One set of random numbers serves
    the whole clip, so that all frames keep the same size and place; boxes
    and masks follow the images. A crop may lose the object.

    The transform takes a clip, every value a list with one entry per frame,
    and therefore stands *outside* ``TransformBroadcaster``.

    Args:
        short_side: Lengths of the short side in pixels, one of which is
            drawn.
        max_long_side: Upper limit of the long side.
        short_side_before_crop: Lengths of the short side from which the crop
            is taken, one of which is drawn; the long side has no limit.
        crop_size: Least and greatest height of the crop in pixels; its width
            is drawn from the same range. A smaller frame stays whole.
        short_side_after_crop: Like ``short_side``, for the crop;
            ``short_side`` when omitted.
        max_long_side_after_crop: Like ``max_long_side``, for the crop;
            ``max_long_side`` when omitted.

    Raises:
        ConfigError: If a length is missing or not positive, or ``crop_size``
            is no range.
    """

    def __init__(
        self,
        short_side: int | Sequence[int],
        max_long_side: int | None = None,
        short_side_before_crop: int | Sequence[int] = (400, 500, 600),
        crop_size: tuple[int, int] = (384, 600),
        short_side_after_crop: int | Sequence[int] | None = None,
        max_long_side_after_crop: int | None = None,
    ) -> None:
        least, most = crop_size
        if not 0 < least <= most:
            raise ConfigError(
                f'crop_size is {crop_size}; give the least and the greatest '
                'side of the crop in pixels.'
            )
        resize = ReferResize(short_side, max_long_side)
        crop = [
            ReferResize(short_side_before_crop),
            RandomCrop(
                crop_type='absolute_range',
                crop_size=(least, most),
                allow_negative_crop=True,
            ),
            ReferResize(
                short_side_after_crop or short_side,
                max_long_side_after_crop or max_long_side,
            ),
        ]
        super().__init__(
            [
                [TransformBroadcaster(branch, share_random_params=True)]
                for branch in ([resize], crop)
            ]
        )

    def __repr__(self) -> str:
        (resize,), (crop,) = (branch.transforms for branch in self.transforms)
        return (
            f'{type(self).__name__}(resize={resize.transforms.transforms}, '
            f'crop={crop.transforms.transforms})'
        )
