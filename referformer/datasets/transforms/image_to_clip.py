# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Turning an image into a short clip."""

import random
from collections.abc import Sequence

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks

from referformer.datasets.transforms.loading import mask_to_box
from referformer.errors import ConfigError
from referformer.registry import TRANSFORMS

#: A corner moves inwards by less than this share of the side, so that the
#: four of them never change places.
_MOST_INWARDS = 0.45
#: Hues that OpenCV tells apart in images of bytes.
_NUM_HUES = 180


def motion_blur_kernel(
    size: int, angle: float, direction: float
) -> np.ndarray:
    """Return the kernel of a straight movement.

    Args:
        size: Length of the movement in pixels, odd.
        angle: Its angle to the vertical, degrees.
        direction: From -1 to 1: whether the exposure was stronger at the
            end, all the same (0), or stronger at the beginning.

    Returns:
        float32, shape (size, size), with sum 1.
    """
    start = (direction + 1) / 2
    kernel = np.zeros((size, size), np.float32)
    kernel[:, size // 2] = np.linspace(start, 1 - start, size)
    centre = ((size - 1) / 2, (size - 1) / 2)
    rotation = cv2.getRotationMatrix2D(centre, angle, 1)
    kernel = cv2.warpAffine(kernel, rotation, (size, size))
    return kernel / kernel.sum()


@TRANSFORMS.register_module()
class ImageToClip(BaseTransform):
    """Make a clip of T frames from an image, as joint training does.

    The clip holds the image itself and T - 1 variations of it, in random
    order. Each variation draws anew:

    * brightness, or hue and saturation, or both, which are changed;
    * a perspective: the corners of the picture come from inside of it, so
      this enlarges;
    * a rotation around the centre and a shift along the diagonal, black
      beyond the border of the picture;
    * motion blur, now and then.

    The mask follows the picture, the box is that of the mask (see
    :func:`~referformer.datasets.transforms.loading.mask_to_box`), and an
    object that has left the picture is absent from the frame. Nothing is
    mirrored, so left stays left.

    Use it after loading image and annotations (T = 1) and before everything
    that treats the frames of a clip alike. Modified keys: ``img``,
    ``gt_masks``, ``gt_bboxes``, ``gt_bboxes_labels``, ``frame_id`` (the
    position in the clip); the others are repeated.

    Args:
        num_frames: Length T of the clip.
        rotation: Largest angle, degrees.
        translation: Largest shift as a share of width and of height; one
            share is drawn for both.
        perspective: Standard deviation of how far a corner moves, as a
            share of width and of height.
        brightness: Largest change of all channels, of 255.
        hue_saturation: Largest change of hue (of a circle of 255) and of
            saturation (of 255); one integer is drawn for both.
        blur_prob: Probability of motion blur.
        blur_sizes: Its lengths in pixels, odd, of which one is drawn.

    Raises:
        ConfigError: If ``num_frames`` is less than 1.
    """

    def __init__(
        self,
        num_frames: int,
        rotation: float = 20,
        translation: float = 0.1,
        perspective: float = 0.08,
        brightness: int = 40,
        hue_saturation: int = 5,
        blur_prob: float = 0.25,
        blur_sizes: Sequence[int] = (9, 11),
    ) -> None:
        if num_frames < 1:
            raise ConfigError(
                f'num_frames is {num_frames}; it must be at least 1.'
            )
        self.num_frames = num_frames
        self.rotation = rotation
        self.translation = translation
        self.perspective = perspective
        self.brightness = brightness
        self.hue_saturation = hue_saturation
        self.blur_prob = blur_prob
        self.blur_sizes = tuple(blur_sizes)

    def transform(self, results: dict[str, list]) -> dict[str, list]:
        """Turn lists of length 1 into lists of length T.

        Raises:
            ConfigError: If there is more than one frame.
        """
        images, masks = results['img'], results['gt_masks']
        if len(images) != 1:
            raise ConfigError(
                f'ImageToClip got {len(images)} frames of '
                f'{results["video_id"][0]}; it makes clips from single '
                'images (SampleClipFrames with num_frames=1).'
            )
        image, masks = images[0], masks[0].masks
        frames = [(image, masks)]
        for _ in range(self.num_frames - 1):
            frames.append(self._vary(image, masks))
        random.shuffle(frames)
        clip = {
            key: values * self.num_frames for key, values in results.items()
        }
        clip['frame_id'] = list(range(self.num_frames))
        clip['img'] = [image for image, _ in frames]
        labels = results['gt_bboxes_labels'][0]
        for t, (_, masks) in enumerate(frames):
            visible = masks.any(axis=(1, 2))
            masks = masks[visible]
            boxes = np.array([*map(mask_to_box, masks)], np.float32)
            clip['gt_masks'][t] = BitmapMasks(masks, *image.shape[:2])
            clip['gt_bboxes'][t] = HorizontalBoxes(boxes.reshape(-1, 4))
            clip['gt_bboxes_labels'][t] = labels[visible]
        return clip

    def _vary(
        self, image: np.ndarray, masks: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return a variation of an image and of its masks, uint8."""
        image = self._recolour(image)
        size = image.shape[1::-1]
        # One after the other: what the rotation brings in is black, also
        # where the image went on beyond the corners of the perspective.
        for matrix in (self._draw_perspective(size), self._draw_motion(size)):
            image = cv2.warpPerspective(image, matrix, size)
            masks = [
                cv2.warpPerspective(
                    mask, matrix, size, flags=cv2.INTER_NEAREST
                )
                for mask in masks
            ]
        if random.random() < self.blur_prob:
            kernel = motion_blur_kernel(
                random.choice(self.blur_sizes),
                random.uniform(0, 360),
                random.uniform(-1, 1),
            )
            image = cv2.filter2D(image, -1, kernel)
        return image, np.array(masks, np.uint8).reshape(-1, *size[::-1])

    def _recolour(self, image: np.ndarray) -> np.ndarray:
        """Change brightness, or hue and saturation, or both."""
        chosen = random.sample(('brightness', 'hue'), random.randint(1, 2))
        if 'brightness' in chosen:
            change = round(random.uniform(-self.brightness, self.brightness))
            image = cv2.add(image, (change,) * 4)
        change = random.randint(-self.hue_saturation, self.hue_saturation)
        # the conversion to another colour space and back loses precision
        if 'hue' in chosen and change:
            levels = np.arange(256)
            tables = np.stack(
                [
                    (levels + int(change / 255 * _NUM_HUES)) % _NUM_HUES,
                    (levels + change).clip(0, 255),
                    levels,
                ],
                axis=-1,
            )
            image = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
            image = cv2.LUT(image, tables.astype(np.uint8)[None])
            image = cv2.cvtColor(image, cv2.COLOR_HSV2BGR)
        return image

    def _draw_perspective(self, size: tuple[int, int]) -> np.ndarray:
        """Return a homography that enlarges a part of the picture."""
        # corners from the top left one on, clockwise
        corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
        moves = [random.gauss(0, self.perspective) for _ in range(8)]
        inwards = np.abs(moves).clip(0, _MOST_INWARDS).reshape(4, 2)
        source = corners + np.where(corners > 0, -inwards, inwards)
        return cv2.getPerspectiveTransform(
            np.float32(source * size), np.float32(corners * size)
        )

    def _draw_motion(self, size: tuple[int, int]) -> np.ndarray:
        """Return the homography of a rotation and a shift."""
        angle = random.uniform(-self.rotation, self.rotation)
        shift = random.uniform(-self.translation, self.translation)
        centre = ((size[0] - 1) / 2, (size[1] - 1) / 2)
        matrix = np.eye(3)
        matrix[:2] = cv2.getRotationMatrix2D(centre, angle, 1)
        matrix[:2, 2] += shift * np.array(size)
        return matrix

    def __repr__(self) -> str:
        settings = ', '.join(f'{k}={v}' for k, v in vars(self).items())
        return f'{type(self).__name__}({settings})'
