# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Pictures that move: GIF, and animated WebP, PNG and AVIF.

Pillow reads them, as FFmpeg knows some of them only in part.
"""

import io
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
from PIL import Image

from referformer.errors import MediaError
from referformer.media.pictures import (
    DAMAGED,
    count_pictures,
    open_picture,
    to_page,
)

#: Seconds that a frame without a time is shown.
_DEFAULT_TIME = 0.1
#: Browsers and FFmpeg do not believe a GIF that asks for less.
_SHORTEST_GIF = 0.02


class Animation:
    """The frames of an animated picture, in the order in which it shows them.

    All of it is decoded once to learn the times.

    Args:
        path (Path): The file.
        partial (bool): Accept a file that is cut off and read what is there.

    Attributes:
        timestamps (np.ndarray): Seconds from the beginning to each of the n
            frames, float64, shape (n,).
        fps (float): Frames per second, the mean if the rate varies.
        shape (tuple[int, int]): Height and width.
        missing (int): Frames that the file announces and does not hold whole.

    Raises:
        MediaError: If it cannot be decoded whole, or at all if ``partial``.
    """

    def __init__(self, path: Path, partial: bool = False) -> None:
        self.path = path
        count = count_pictures(path)
        shown: list[float] = []
        try:
            for image in self._images(range(count)):
                shown.append(_seconds_of(image))
                self.shape = image.size[::-1]
        except MediaError:
            if not shown or not partial:
                raise
        self.missing = count - len(shown)
        *starts, end = accumulate(shown, initial=0.0)
        self.timestamps = np.array(starts)
        self.fps = len(shown) / end

    def iterate(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        """Yield the frames of increasing numbers, uint8, BGR, (H, W, 3)."""
        yield from map(to_page, self._images(indices))

    def _images(self, indices: Sequence[int]) -> Iterator[Image.Image]:
        """Yield frames as Pillow's picture at its present position."""
        with open_picture(self.path) as image:
            first = int(image.info.get('default_image', False))
            for number in indices:
                try:
                    image.seek(first + number)
                    image.load()
                except DAMAGED as error:
                    raise MediaError(
                        f'{self.path} cannot be decoded at frame {number} '
                        f'({error})',
                        file=self.path,
                        remedy='it is damaged or cut off there; copy or '
                        'download it again.',
                    ) from error
                yield image


def _seconds_of(image: Image.Image) -> float:
    """Return how long a frame is shown."""
    seconds = float(image.info.get('duration', 0)) / 1000
    shortest = _SHORTEST_GIF if image.format == 'GIF' else 0.001
    return seconds if seconds >= shortest else _DEFAULT_TIME


def encode_animation(
    frames: Sequence[np.ndarray], fps: float, quality: int = 75
) -> bytes:
    """Encode frames as a WebP picture that moves, and begins again.

    Args:
        frames (Sequence[np.ndarray]): RGB frames of one size (h, w, 3), uint8.
        fps (float): Frames per second.
        quality (int): From 0, the smallest, to 100.
    """
    first, *others = map(Image.fromarray, frames)
    file = io.BytesIO()
    first.save(
        file,
        'WEBP',
        save_all=True,
        append_images=others,
        duration=round(1000 / fps),
        loop=0,
        quality=quality,
        method=4,
    )
    return file.getvalue()
