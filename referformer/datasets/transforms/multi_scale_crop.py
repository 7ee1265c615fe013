# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Random scale and crop of a clip."""

from collections.abc import Sequence

from mmcv.transforms import RandomChoice, TransformBroadcaster
from mmdet.datasets.transforms import RandomCrop

from referformer.datasets.transforms.resize import ReferResize
from referformer.errors import ConfigError
from referformer.registry import TRANSFORMS


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
