# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Reading one frame and the mask of the referred object."""

from pathlib import Path
from typing import Any

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from PIL import Image
from pycocotools import mask as mask_utils

from referformer.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadReferFrame(BaseTransform):
    """Read a frame.

    Unlike OpenCV, which fills the rest of a truncated JPEG with grey and
    goes on, it refuses a damaged file. Pixels stay where they are stored: a
    note in the file to turn the picture (EXIF) is ignored, as annotations
    and published code know nothing of it.

    Required key: ``img_path``. Added keys: ``img`` (uint8, BGR, shape
    (H, W, 3)), ``img_shape`` and ``ori_shape`` ((H, W)).
    """

    def transform(self, results: dict) -> dict:
        """Read the image.

        Raises:
            FileNotFoundError: If the file is missing.
            OSError: If the file is damaged or no image.
        """
        path = Path(results['img_path'])
        try:
            content = path.read_bytes()
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f'Frame {path} is missing; extract the video again or remove '
                'the frame from the expressions file.'
            ) from error
        try:
            image = mmcv.imfrombytes(
                content, flag='color_ignore_orientation', backend='pillow'
            )
        except Exception as error:
            raise OSError(
                f'Frame {path} cannot be decoded ({error}); the file is '
                'damaged, extract it again.'
            ) from error
        results['img'] = image
        results['img_shape'] = image.shape[:2]
        results['ori_shape'] = image.shape[:2]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'


def mask_to_box(mask: np.ndarray) -> np.ndarray:
    """Return the box of a mask as the published code defines it.

    The far edges are the last pixels *inside* the mask, so the box of a mask
    of one pixel has no area.

    Args:
        mask: Not empty, shape (H, W).

    Returns:
        x1, y1, x2, y2, float32, shape (4,).
    """
    columns = np.flatnonzero(mask.any(axis=0))
    rows = np.flatnonzero(mask.any(axis=1))
    return np.array(
        [columns[0], rows[0], columns[-1], rows[-1]], dtype=np.float32
    )


@TRANSFORMS.register_module()
class LoadReferAnnotations(BaseTransform):
    """Read the mask of the referred object from an indexed PNG.

    In training, place it before the first geometric transform; in testing,
    after the resize, so that the ground truth keeps the original size. A
    frame without ground truth passes untouched; in a clip with a single
    annotated frame the others count as showing nothing.

    Required keys: ``mask_path``, ``obj_id``, ``label``, ``ori_shape``. Added
    keys, n = 1 when the object is visible in the frame and else 0:
    ``gt_masks`` (BitmapMasks, n x H x W), ``gt_bboxes`` (HorizontalBoxes,
    shape (n, 4), see :func:`mask_to_box`), ``gt_bboxes_labels`` (int64,
    shape (n,)).

    A video with all its ``expressions`` gets ``gt_rles`` instead: for each
    expression the encoded mask, or ``None`` where it has no ground truth.

    Data sets whose masks come in another form subclass it and override
    :meth:`open` and :meth:`select`.
    """

    def open(self, results: dict) -> Any | None:
        """Read the masks of all objects in a frame.

        Args:
            results: The frame.

        Returns:
            What :meth:`select` picks from, ``None`` if the frame is not
            annotated.

        Raises:
            FileNotFoundError: If the file is missing.
            OSError: If the file is damaged.
            ValueError: If it is no map of object ids.
        """
        if results['mask_path'] is None:
            return None
        return self._read_ids(Path(results['mask_path']))

    def select(
        self, source: Any, results: dict, expression: dict
    ) -> np.ndarray | None:
        """Return the mask of what an expression means.

        Args:
            source: What :meth:`open` returned.
            results: The frame.
            expression: The expression's facts: one of
                ``results['expressions']``, or ``results`` itself.

        Returns:
            bool, shape (H, W), or ``None`` if this expression has no ground
            truth.

        Raises:
            ValueError: If the object id is no number from 1 to 255.
        """
        if expression['obj_id'] is None:
            return None
        return source == self._parse_id(results, expression)

    def transform(self, results: dict) -> dict:
        """Read the mask; see also :meth:`open` and :meth:`select`.

        Raises:
            ValueError: If the mask has another size than its frame.
        """
        source = self.open(results)
        if source is not None:
            if 'expressions' in results:
                results['gt_rles'] = [
                    self._encode(source, results, expression)
                    for expression in results['expressions']
                ]
                return results
            mask = self._checked(source, results, results)
        elif results.get('annotated_frame') is not None:
            # all frames of a clip must have the same keys
            mask = np.zeros(results['ori_shape'], bool)
        else:
            mask = None
        if mask is None:
            return results
        visible = bool(mask.any())
        boxes = self.box(mask, results)[None] if visible else np.zeros((0, 4))
        results['gt_masks'] = BitmapMasks(
            mask[None].astype(np.uint8) if visible else [], *mask.shape
        )
        results['gt_bboxes'] = HorizontalBoxes(boxes.astype(np.float32))
        results['gt_bboxes_labels'] = np.full(
            int(visible), results['label'], dtype=np.int64
        )
        return results

    def box(self, mask: np.ndarray, results: dict) -> np.ndarray:
        """Return the box of a visible object.

        Args:
            mask: bool, shape (H, W).
            results: The frame.

        Returns:
            x1, y1, x2, y2 in pixels, shape (4,).
        """
        return mask_to_box(mask)

    def _checked(
        self, source: Any, results: dict, expression: dict
    ) -> np.ndarray | None:
        """Select a mask and check its size."""
        mask = self.select(source, results, expression)
        shape = tuple(results['ori_shape'])
        if mask is not None and mask.shape != shape:
            frame = results.get('img_path') or (
                f'{results["frame_name"]} of {results.get("video_path")}'
            )
            raise ValueError(
                f'Mask {results["mask_path"]} is {mask.shape[1]}x'
                f'{mask.shape[0]}, its frame {frame} {shape[1]}x{shape[0]}; '
                'both must be of one size.'
            )
        return mask

    def _encode(
        self, source: Any, results: dict, expression: dict
    ) -> dict | None:
        """Return the mask of an expression, run-length encoded."""
        mask = self._checked(source, results, expression)
        if mask is None:
            return None
        return mask_utils.encode(np.asfortranarray(mask, dtype=np.uint8))

    @staticmethod
    def _read_ids(path: Path) -> np.ndarray:
        """Return the map of object ids, shape (H, W)."""
        try:
            with Image.open(path) as image:
                mode = image.mode
                ids = np.asarray(image)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f'Mask {path} is missing; extract the annotations of the '
                'video again.'
            ) from error
        except Exception as error:
            raise OSError(
                f'Mask {path} cannot be decoded ({error}); the file is '
                'damaged, extract it again.'
            ) from error
        if mode not in ('P', 'L'):
            raise ValueError(
                f'Mask {path} has mode {mode}; it must be an indexed or grey '
                'PNG whose values are object ids.'
            )
        return ids

    @staticmethod
    def _parse_id(results: dict, expression: dict) -> int:
        """Return the object id as the number in the mask."""
        text = str(expression['obj_id'])
        number = int(text) if text.isdecimal() else 0
        if not 0 < number < 256:
            raise ValueError(
                f'Object id {text!r} of video {results.get("video_id")} is '
                'no number from 1 to 255, so no mask can hold it; correct '
                'the expressions file.'
            )
        return number

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
