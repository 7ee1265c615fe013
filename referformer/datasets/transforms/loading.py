# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Reading one frame and the mask of the referred object."""

from abc import abstractmethod
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from PIL import UnidentifiedImageError

from referformer.errors import (
    ConfigError,
    DataError,
    MediaError,
    MissingDataError,
    MissingMediaError,
    check_choice,
)
from referformer.formats.frames import find_file
from referformer.formats.label_maps import is_object_id, read_label_map
from referformer.formats.rle import encode_mask
from referformer.media.reader import VideoReader
from referformer.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadReferFrame(BaseTransform):
    """Read a frame.

    Unlike OpenCV, which fills the rest of a truncated JPEG with grey,
    it refuses a damaged file. A rotation in the EXIF data is ignored, as in
    the annotations and the published code.

    A file with another suffix of pictures (.jpg, .jpeg or .png in any case)
    takes the place of one that is missing.

    Required key: ``img_path``. Added keys: ``img`` (uint8, BGR, shape
    (H, W, 3)), ``img_shape`` and ``ori_shape`` ((H, W)).

    Args:
        keep (int): Last frames to keep in memory, decoded. For a sampler
            that draws several expressions of a clip one after another.
            Defaults to 0, none.

    Raises:
        ConfigError: If ``keep`` is negative.
    """

    def __init__(self, keep: int = 0) -> None:
        if keep < 0:
            raise ConfigError(f'keep is {keep}; it must be 0 or more.')
        self.keep = keep
        self._kept: dict[str, tuple[Path, np.ndarray]] = {}

    def transform(self, results: dict) -> dict:
        """Read the image.

        Raises:
            MissingMediaError: If the file is missing.
            MediaError: If the file is damaged or no image.
        """
        path, image = self._read(results['img_path'])
        results['img_path'] = str(path)
        results['img'] = image
        results['img_shape'] = image.shape[:2]
        results['ori_shape'] = image.shape[:2]
        return results

    def _read(self, wanted: str) -> tuple[Path, np.ndarray]:
        if not self.keep:
            return self._decode(wanted)
        if wanted not in self._kept:
            while len(self._kept) >= self.keep:
                del self._kept[next(iter(self._kept))]  # the oldest
            self._kept[wanted] = self._decode(wanted)
        path, image = self._kept[wanted]
        return path, image.copy()  # others may write into it

    @staticmethod
    def _decode(wanted: str) -> tuple[Path, np.ndarray]:
        path = find_file(wanted)
        if path is None:
            raise MissingMediaError(
                f'Frame {wanted} is missing',
                file=wanted,
                remedy='extract the video again or remove the frame from the '
                'expressions file.',
                code='frame-missing',
            )
        try:
            image = mmcv.imfrombytes(
                path.read_bytes(),
                flag='color_ignore_orientation',
                backend='pillow',
            )
        except Exception as error:
            # whose own text names an object in memory
            unknown = isinstance(error, UnidentifiedImageError)
            reason = 'it is no picture' if unknown else error
            raise MediaError(
                f'Frame {path} cannot be decoded ({reason}); the file is '
                'damaged',
                file=path,
                remedy='extract it again.',
                code='frame-broken',
            ) from error
        return path, image

    def __repr__(self) -> str:
        return f'{type(self).__name__}(keep={self.keep})'


@TRANSFORMS.register_module()
class LoadReferVideoFrames(BaseTransform):
    """Read all frames of a clip in one go, decoding only what is needed.

    It takes the whole clip and so stands *before* the first
    ``TransformBroadcaster``, in place of ``LoadReferFrame``.

    Required keys, lists of length T: ``video_path``, ``frame_id``, and
    ``frame_stride`` if only every so many frames of the file count. Added
    keys, likewise: ``img`` (uint8, BGR, shape (H, W, 3)), ``img_shape`` and
    ``ori_shape`` ((H, W)).
    """

    def transform(self, results: dict[str, list]) -> dict[str, list]:
        """Read the frames.

        Raises:
            MissingMediaError: If the file is missing.
            MediaError: If it is damaged.
            DataError: If it has no such frame.
        """
        path, step = results['video_path'][0], results.get('frame_stride', [1])
        with VideoReader(path) as video:
            last = step[0] * max(results['frame_id'])
            if last >= len(video):
                raise DataError(
                    f'Video {path} has {len(video)} frames, but frame '
                    f'{last + 1} is annotated',
                    file=path,
                    remedy='extract the videos again.',
                    code='video-short',
                )
            images = video.read([step[0] * i for i in results['frame_id']])
        results['img'] = images
        results['img_shape'] = [image.shape[:2] for image in images]
        results['ori_shape'] = [image.shape[:2] for image in images]
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


class BaseLoadReferAnnotations(BaseTransform):
    """Base of the transforms that read the mask of the referred object.

    In training, place it before the first geometric transform; in testing,
    after the resize, so that the ground truth keeps the original size. A
    frame without ground truth is not changed; in a clip with a single
    annotated frame the other frames have no mask.

    Required keys: ``mask_path`` (file with the mask of the frame) or
    ``masks_file`` (file with the masks of all frames or objects), ``obj_id``,
    ``label``, ``ori_shape``. Added
    keys, n = 1 when the object is visible in the frame and else 0:
    ``gt_masks`` (BitmapMasks, n x H x W), ``gt_bboxes`` (HorizontalBoxes,
    shape (n, 4), see :func:`mask_to_box`), ``gt_bboxes_labels`` (int64,
    shape (n,)).

    A video with all its ``expressions`` gets ``gt_rles`` instead: for each
    expression the encoded mask, or ``None`` where it has no ground truth.
    Each is read from the files that its own facts name.
    """

    @abstractmethod
    def open(self, results: dict) -> Any | None:
        """Read the masks of all objects in a frame.

        Args:
            results: The frame. Of an expression it knows ``mask_path``,
                ``masks_file`` and ``mask_missing`` only.

        Returns:
            What :meth:`select` picks from, ``None`` if the frame is not
            annotated.

        Raises:
            MissingDataError: If the file is missing.
            DataError: If it is damaged or another file.
        """

    @abstractmethod
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
            DataError: If the file does not hold it.
        """

    def transform(self, results: dict) -> dict:
        """Read the mask; see also :meth:`open` and :meth:`select`.

        Raises:
            DataError: If the mask has another size than its frame.
        """
        if 'expressions' in results:
            self._encode_all(results)
            return results
        source = self.open(results)
        mask = None
        if source is not None:
            mask = self.mask(source, results, results)
        elif results.get('annotated_position') is not None:
            # all frames of a clip must have the same keys
            mask = np.zeros(results['ori_shape'], bool)
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

    def _encode_all(self, results: dict) -> None:
        """Add ``gt_rles``, if an expression has ground truth."""
        sources: dict[tuple, Any] = {}
        rles = []
        for expression in results['expressions']:
            facts = {
                'mask_path': self._mask_path(results, expression),
                'masks_file': expression.get(
                    'masks_file', results.get('masks_file')
                ),
                'mask_missing': expression.get('mask_missing', 'error'),
            }
            frame, key = {**results, **facts}, tuple(facts.values())
            if key not in sources:
                sources[key] = self.open(frame)
            mask = None
            if sources[key] is not None:
                mask = self.mask(sources[key], frame, expression)
            rles.append(None if mask is None else encode_mask(mask))
        if any(source is not None for source in sources.values()):
            results['gt_rles'] = rles

    @staticmethod
    def _mask_path(results: dict, expression: dict) -> str | None:
        """Return the file with the mask of an expression in a frame."""
        if expression.get('mask_dir') is not None:
            name = f'{results["frame_name"]}{expression["mask_suffix"]}'
            return f'{expression["mask_dir"]}/{name}'
        return None if 'mask_dir' in expression else results['mask_path']

    def mask(
        self, source: Any, results: dict, expression: dict
    ) -> np.ndarray | None:
        """Return what :meth:`select` does, after a check of its size."""
        mask = self.select(source, results, expression)
        shape = tuple(results['ori_shape'])
        if mask is not None and mask.shape != shape:
            frame = results.get('img_path') or (
                f'{results["frame_name"]} of {results.get("video_path")}'
            )
            path = results['mask_path'] or results.get('masks_file')
            raise DataError(
                f'Mask {path} is {mask.shape[1]}x{mask.shape[0]}, its frame '
                f'{frame} {shape[1]}x{shape[0]}; both must be of one size.',
                file=path,
                code='mask-transposed'
                if mask.shape == shape[::-1]
                else 'mask-size-differs',
            )
        return mask

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'


@TRANSFORMS.register_module()
class LoadReferAnnotations(BaseLoadReferAnnotations):
    """Read the mask of the referred object from an indexed PNG.

    Its pixels are the ids of objects, so that ``obj_id`` picks one; in files
    of one object each, ``mask_value`` names the value that means it.
    Where a set has no file for a frame that does not show the object, its
    clips say ``mask_missing='absent'``; the default is ``'error'``. Otherwise
    as :class:`BaseLoadReferAnnotations`.
    """

    def open(self, results: dict) -> np.ndarray | None:
        """Return the map of object ids, uint8, shape (H, W)."""
        if results['mask_path'] is None:
            return None
        path = find_file(results['mask_path'], ('.png',))
        if path is not None:
            return read_label_map(path)
        missing = results.get('mask_missing', 'error')
        check_choice('mask_missing', missing, ('error', 'absent'))
        if missing == 'absent':
            return np.zeros(results['ori_shape'], np.uint8)
        raise MissingDataError(
            f'Mask {results["mask_path"]} is missing',
            file=results['mask_path'],
            remedy='extract the annotations of the video again.',
            code='mask-missing',
        )

    def select(
        self, source: np.ndarray, results: dict, expression: dict
    ) -> np.ndarray | None:
        """Return where the map has the value of the object.

        Raises:
            DataError: If the object id is no number from 1 to 255.
        """
        if expression['obj_id'] is None:
            return None
        if expression.get('mask_value') is not None:
            return source == expression['mask_value']
        text = str(expression['obj_id'])
        if not is_object_id(text):
            raise DataError(
                f'Object id {text!r} of video {results.get("video_id")} is '
                'no number from 1 to 255, so no mask can hold it',
                file=results.get('mask_path'),
                remedy='correct the expressions file.',
                code='object-id-wrong',
            )
        return source == int(text)
