# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Reading the masks of the public sets that are no maps of object ids."""

from pathlib import Path

import mmcv
import numpy as np
from pycocotools import mask as mask_utils

from referformer.datasets.transforms.loading import BaseLoadReferAnnotations
from referformer.errors import DataError
from referformer.formats.a2d import A2DFrame, read_a2d_frame
from referformer.formats.jhmdb import read_puppet_mask
from referformer.formats.mask_dict import MaskTable, open_mask_table
from referformer.formats.rle import to_rle
from referformer.formats.sav import Masklets, read_masklets
from referformer.registry import TRANSFORMS

#: Masks and frames of A2D were scaled to 320 rows apart; codecs want even
#: sides.
_ROUNDING = 2


@TRANSFORMS.register_module()
class LoadA2DAnnotations(BaseLoadReferAnnotations):
    """Read the mask of the referred object from the frame's HDF5 file.

    Only the frame ``annotated_frame_id`` (position in the video) has one.
    Where the mask and the frame differ by a rounded pixel or two, the mask is
    scaled to the frame in training; in testing, after the resize, it is left
    alone and its size becomes ``ori_shape``: that is the size it is scored
    at.

    Required keys: those of :class:`BaseLoadReferAnnotations`, ``frame_id`` and
    ``annotated_frame_id``.
    """

    def open(self, results: dict) -> A2DFrame | None:
        """Return the instances of the frame, ``None`` if not annotated."""
        if results['frame_id'] != results['annotated_frame_id']:
            return None
        frame = read_a2d_frame(Path(results['masks_file']))
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
                f'{results["masks_file"]} has the instances {source.ids}, but '
                f'an expression is about {instance}',
                file=results['masks_file'],
                remedy='make the annotation files again by '
                'tools/dataset_converters/a2d_to_coco.py.',
                code='instance-missing',
            )
        return source.masks[source.ids.index(instance)]


@TRANSFORMS.register_module()
class LoadJHMDBAnnotations(BaseLoadReferAnnotations):
    """Read the mask of the actor from the video's ``puppet_mask.mat``.

    Only that of the frame ``annotated_frame_id`` (position in the video) is
    read.

    Required keys: those of :class:`BaseLoadReferAnnotations`, ``frame_id`` and
    ``annotated_frame_id``.
    """

    def open(self, results: dict) -> np.ndarray | None:
        """Return the mask of the frame, ``None`` if it is not annotated.

        Raises:
            DataError: If the file ends before the frame.
        """
        position = results['annotated_frame_id']
        if results['frame_id'] != position:
            return None
        return read_puppet_mask(
            Path(results['masks_file']), position, results['ori_shape']
        )

    def select(
        self, source: np.ndarray, results: dict, expression: dict
    ) -> np.ndarray:
        """Return the mask: every video shows one actor."""
        return source


@TRANSFORMS.register_module()
class LoadMeViSAnnotations(BaseLoadReferAnnotations):
    """Read the union of the objects meant from ``mask_dict.json``.

    Required keys: ``masks_file`` (the table, ``None`` without ground truth),
    ``frame_id``, ``anno_ids``, ``label``, ``ori_shape``. Added keys: those of
    :class:`BaseLoadReferAnnotations`.
    """

    def open(self, results: dict) -> MaskTable | None:
        """Return the table, opened once a process."""
        if results['masks_file'] is None:
            return None
        return open_mask_table(results['masks_file'])

    def select(
        self, source: MaskTable, results: dict, expression: dict
    ) -> np.ndarray:
        """Return the union of the masks an expression means.

        Raises:
            DataError: If a mask is unreadable or has another size than the
                frame.
        """
        return source.mask(
            expression['anno_ids'], results['frame_id'], results['ori_shape']
        )


@TRANSFORMS.register_module()
class LoadSAVAnnotations(BaseLoadReferAnnotations):
    """Read the mask of the object meant from the JSON file of a SA-V video.

    Required keys: ``masks_file``, ``frame_id``, ``obj_id``, ``label``,
    ``ori_shape``. Added keys: those of :class:`BaseLoadReferAnnotations`.
    """

    def open(self, results: dict) -> Masklets:
        """Return the masks of the video, read once for a clip."""
        return read_masklets(results['masks_file'])

    def select(
        self, source: Masklets, results: dict, expression: dict
    ) -> np.ndarray:
        """Return the mask of the object an expression means.

        Raises:
            DataError: If there is none, or it is unreadable or has another
                size than the frame.
        """
        return source.mask(
            expression['obj_id'], results['frame_id'], results['ori_shape']
        )


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
                code='image-size-differs',
            )
        try:
            rle = to_rle(expression['rles'], *source)
        except ValueError as error:
            raise DataError(
                f'Sentence {expression["exp_id"]} of {expression["subset"]} '
                f'({results["img_path"]}): the segmentation {error}.',
                file=results['img_path'],
                code='segmentation-broken',
            ) from error
        return mask_utils.decode(rle).astype(bool)

    def box(self, mask: np.ndarray, results: dict) -> np.ndarray:
        """Return the published box."""
        return np.array(results['ori_bbox'])
