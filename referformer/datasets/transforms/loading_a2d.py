# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Reading the masks of A2D-Sentences."""

from pathlib import Path

import mmcv
import numpy as np

from referformer.datasets.transforms.loading import BaseLoadReferAnnotations
from referformer.errors import DataError
from referformer.formats.a2d import A2DFrame, read_a2d_frame
from referformer.registry import TRANSFORMS

#: Masks and frames were scaled to 320 rows apart; codecs want even sides.
_ROUNDING = 2


@TRANSFORMS.register_module()
class LoadA2DAnnotations(BaseLoadReferAnnotations):
    """Read the mask of the referred object from the frame's HDF5 file.

    Only the frame ``mask_frame`` (position in the video) has one. Where the
    mask and the frame differ by a rounded pixel or two, the mask is scaled to
    the frame in training; in testing, after the resize, it is left alone and
    its size becomes ``ori_shape``: that is the size it is scored at.

    Required keys: those of :class:`BaseLoadReferAnnotations`, ``frame_id`` and
    ``mask_frame``.
    """

    def open(self, results: dict) -> A2DFrame | None:
        """Return the instances of the frame, ``None`` if not annotated."""
        if results['frame_id'] != results['mask_frame']:
            return None
        frame = read_a2d_frame(Path(results['mask_path']))
        shape, height_width = frame.masks.shape[1:], results['ori_shape']
        difference = np.abs(np.subtract(shape, height_width)).max()
        if not 0 < difference <= _ROUNDING:
            return frame
        if 'scale_factor' in results:
            results['ori_shape'] = shape
            return frame
        masks = [
            mmcv.imresize(
                mask.astype(np.uint8),
                height_width[::-1],
                interpolation='nearest',
            )
            for mask in frame.masks
        ]
        return frame._replace(masks=np.stack(masks) > 0)

    def select(
        self, source: A2DFrame, results: dict, expression: dict
    ) -> np.ndarray:
        """Return the mask of the instance the expression is about.

        Raises:
            DataError: If the frame does not show it.
        """
        instance = int(expression['obj_id'])
        if instance not in source.ids:
            raise DataError(
                f'{results["mask_path"]} has the instances {source.ids}, but '
                f'an expression is about {instance}',
                file=results['mask_path'],
                value=instance,
                remedy='make the annotation files again by '
                'tools/dataset_converters/a2d_to_coco.py.',
                code='instance-missing',
            )
        return source.masks[source.ids.index(instance)]
