# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Reading one frame and the mask of the referred object."""

from pathlib import Path

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from PIL import Image

from referformer.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadReferFrame(BaseTransform):
    """Read a frame.

    Unlike OpenCV, which fills the rest of a truncated JPEG with grey and
    goes on, it refuses a damaged file.

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
            image = mmcv.imfrombytes(content, flag='color', backend='pillow')
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
    frame without ground truth (``mask_path`` is ``None``) passes untouched.

    Required keys: ``mask_path``, ``obj_id``, ``label``, ``ori_shape``. Added
    keys, n = 1 when the object is visible in the frame and else 0:
    ``gt_masks`` (BitmapMasks, n x H x W), ``gt_bboxes`` (HorizontalBoxes,
    shape (n, 4), see :func:`mask_to_box`), ``gt_bboxes_labels`` (int64,
    shape (n,)).
    """

    def transform(self, results: dict) -> dict:
        """Read the mask.

        Raises:
            FileNotFoundError: If the file is missing.
            OSError: If the file is damaged.
            ValueError: If the mask does not fit the frame or is no id map,
                or if the object id is no number from 1 to 255.
        """
        if results['mask_path'] is None:
            return results
        path = Path(results['mask_path'])
        ids = self._read_ids(path)
        shape = tuple(results['ori_shape'])
        if ids.shape != shape:
            raise ValueError(
                f'Mask {path} is {ids.shape[1]}x{ids.shape[0]}, its frame '
                f'{results["img_path"]} {shape[1]}x{shape[0]}; both must be '
                'of one size.'
            )
        mask = ids == self._parse_id(results)
        visible = bool(mask.any())
        boxes = mask_to_box(mask)[None] if visible else np.zeros((0, 4))
        results['gt_masks'] = BitmapMasks(
            mask[None].astype(np.uint8) if visible else [], *shape
        )
        results['gt_bboxes'] = HorizontalBoxes(boxes.astype(np.float32))
        results['gt_bboxes_labels'] = np.full(
            int(visible), results['label'], dtype=np.int64
        )
        return results

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
    def _parse_id(results: dict) -> int:
        """Return the object id as the number in the mask."""
        text = str(results['obj_id'])
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
