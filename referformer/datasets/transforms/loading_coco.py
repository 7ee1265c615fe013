# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Reading masks that COCO annotates as polygons or run lengths."""

import numpy as np
from pycocotools import mask as mask_utils

from referformer.datasets.transforms.loading import BaseLoadReferAnnotations
from referformer.errors import DataError
from referformer.formats.rle import to_rle
from referformer.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadCocoReferAnnotations(BaseLoadReferAnnotations):
    """Draw the mask of the referred object from its annotation.

    The box is the published one (``ori_bbox``), not that of the mask; both
    differ by fractions of a pixel, and published scores use the former.
    Otherwise as :class:`BaseLoadReferAnnotations`; required keys: ``rles``,
    ``ori_bbox``, ``label``, ``ori_shape``; ``ann_shape``, height and width of
    the image according to the annotation file, is checked if it is there.
    """

    def open(self, results: dict) -> tuple[int, int]:
        """Return height and width of the image."""
        height, width = results['ori_shape']
        return height, width

    def select(
        self, source: tuple[int, int], results: dict, expression: dict
    ) -> np.ndarray:
        """Return the mask of what an expression means.

        Raises:
            DataError: If its annotation does not fit the image.
        """
        said = expression.get('ann_shape')
        if said is not None and tuple(said) != tuple(source):
            raise DataError(
                f'{results["img_path"]}: the image is {source[1]}x'
                f'{source[0]}, but {said[1]}x{said[0]} for sentence '
                f'{expression["exp_id"]} of {expression["subset"]}; use the '
                'images of COCO train2014 as they are.',
                file=results['img_path'],
                value=said,
                code='image-size-differs',
            )
        try:
            rle = to_rle(expression['rles'], *source)
        except ValueError as error:
            raise DataError(
                f'Sentence {expression["exp_id"]} of {expression["subset"]} '
                f'({results["img_path"]}): the segmentation {error}.',
                file=results['img_path'],
                value=expression['exp_id'],
                code='segmentation-broken',
            ) from error
        return mask_utils.decode(rle).astype(bool)

    def box(self, mask: np.ndarray, results: dict) -> np.ndarray:
        """Return the published box."""
        return np.array(results['ori_bbox'])
