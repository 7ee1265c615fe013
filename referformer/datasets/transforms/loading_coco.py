# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Reading masks that COCO annotates as polygons or run lengths."""

from typing import Any

import numpy as np
from pycocotools import mask as mask_utils

from referformer.datasets.transforms.loading import LoadReferAnnotations
from referformer.formats.rle import to_rle
from referformer.registry import TRANSFORMS

#: Numbers of the shortest polygon: three points.
_SHORTEST_POLYGON = 6


def decode_segmentation(
    segmentation: Any, shape: tuple[int, int]
) -> np.ndarray:
    """Return the mask of a COCO annotation.

    Args:
        segmentation: Polygons (lists of x, y, x, y, ...), which together
            make one mask, or run lengths, compressed or not.
        shape: Height and width of the image.

    Returns:
        bool, shape (H, W). Polygons of less than three points add nothing.

    Raises:
        ValueError: If it is neither, or of an image of another size.
    """
    if isinstance(segmentation, list):
        segmentation = [
            # not one of four numbers, which would be taken for a box
            polygon
            for polygon in segmentation
            if not isinstance(polygon, list)
            or len(polygon) >= _SHORTEST_POLYGON
        ]
        if not segmentation:
            return np.zeros(shape, bool)
    try:
        return mask_utils.decode(to_rle(segmentation, *shape)).astype(bool)
    except ValueError as error:
        raise ValueError(f'the segmentation {error}.') from error


@TRANSFORMS.register_module()
class LoadCocoReferAnnotations(LoadReferAnnotations):
    """Draw the mask of the referred object from its annotation.

    The box is the published one (``ori_bbox``), not that of the mask; both
    differ by fractions of a pixel, and published scores use the former.
    Otherwise as :class:`LoadReferAnnotations`; required keys: ``rles``,
    ``ori_bbox``, ``label``, ``ori_shape``.
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
            ValueError: If its annotation does not fit the image.
        """
        try:
            return decode_segmentation(expression['rles'], source)
        except ValueError as error:
            raise ValueError(
                f'Sentence {expression["exp_id"]} of '
                f'{expression["subset"]} ({results["img_path"]}): {error}'
            ) from error

    def box(self, mask: np.ndarray, results: dict) -> np.ndarray:
        """Return the published box."""
        return np.array(results['ori_bbox'])
