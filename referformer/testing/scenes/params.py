# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Parameters of a set of scenes."""

import dataclasses

import numpy as np

from referformer.errors import ConfigError
from referformer.testing.scenes.shapes import SHAPES
from referformer.testing.scenes.vocabulary import COLOURS

#: Version of the drawing rules. Raise it whenever the pixels or expressions
#: made from the same parameters change, so that old sets are not reused.
VERSION = 1
SPLITS = ('train', 'valid')


@dataclasses.dataclass(frozen=True)
class SyntheticParams:
    """What determines a synthetic set completely.

    Args:
        train_videos: Number of training videos.
        valid_videos: Number of validation videos.
        frames: Frames of every video.
        height: Frame height in pixels, at least 32.
        width: Frame width in pixels, at least 32.
        seed: Seed of all random streams, not negative.
        colours: How many colours appear: the first ones of :data:`COLOURS`.
        shapes: How many shapes appear: the first ones of :data:`SHAPES`.
        objects: Most objects in a video, 2 to 4. With 2, every video shows two
            objects that differ in one attribute, which is easy to learn.

    Raises:
        ConfigError: If a value is out of its range.
    """

    train_videos: int = 300
    valid_videos: int = 40
    frames: int = 8
    height: int = 96
    width: int = 160
    seed: int = 0
    colours: int = 8
    shapes: int = 6
    objects: int = 4

    def __post_init__(self) -> None:
        limits = {
            'train_videos': (0, None),
            'valid_videos': (0, None),
            'frames': (1, None),
            'height': (32, None),
            'width': (32, None),
            'seed': (0, None),
            'colours': (2, len(COLOURS)),
            'shapes': (2, len(SHAPES)),
            'objects': (2, 4),
        }
        for name, (least, most) in limits.items():
            value = getattr(self, name)
            if value < least:
                limit = f'at least {least}'
            elif most is not None and value > most:
                limit = f'at most {most}'
            else:
                continue
            raise ConfigError(f'{name} is {value}; it must be {limit}.')

    def videos(self, split: str) -> int:
        """Return the number of videos of ``split``."""
        return self.train_videos if split == 'train' else self.valid_videos

    def stream(self, split: str, index: int) -> np.random.Generator:
        """Return the random stream of one video.

        Streams of different videos, splits and seeds are independent. A
        larger set therefore begins with the videos of a smaller one, and
        train and valid never share a video.
        """
        return np.random.default_rng([self.seed, SPLITS.index(split), index])
