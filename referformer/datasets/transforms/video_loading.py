# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Reading the frames of a clip from a video file."""

from mmcv.transforms import BaseTransform

from referformer.media.reader import VideoReader
from referformer.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadReferVideoFrames(BaseTransform):
    """Read all frames of a clip in one go, decoding only what is needed.

    It takes the whole clip and so stands *before* the first
    ``TransformBroadcaster``, in place of ``LoadReferFrame``.

    Required keys, lists of length T: ``video_path``, ``frame_id``. Added
    keys, likewise: ``img`` (uint8, BGR, shape (H, W, 3)), ``img_shape`` and
    ``ori_shape`` ((H, W)).
    """

    def transform(self, results: dict[str, list]) -> dict[str, list]:
        """Read the frames.

        Raises:
            MissingMediaError: If the file is missing.
            MediaError: If it is damaged.
            IndexError: If it has no such frame.
        """
        with VideoReader(results['video_path'][0]) as video:
            images = video.read(results['frame_id'])
        results['img'] = images
        results['img_shape'] = [image.shape[:2] for image in images]
        results['ori_shape'] = [image.shape[:2] for image in images]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
