# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Parameters of a set of scenes with motion."""

import dataclasses
from typing import ClassVar

import numpy as np

from referformer.errors import ConfigError, check_choice
from referformer.testing.motion_scenes.cast import CUES
from referformer.testing.motion_scenes.kinds import KINDS

SPLITS = ('train', 'valid')


@dataclasses.dataclass(frozen=True)
class MotionSceneParams:
    """What determines a set of scenes with motion completely.

    Args:
        train_videos: Number of training videos.
        valid_videos: Number of validation videos.
        frames: Frames of every video, at least 4.
        height: Frame height in pixels, at least 64.
        width: Frame width in pixels, at least as large as the height.
        seed: Seed of all random streams, not negative.
        first_kind: The first of :data:`~.kinds.KINDS` that appears.
        kinds: How many kinds appear, from the first one on.
        cue: In what the two twins of every video differ: a key of
            :data:`~.cast.CUES`, or ``'all'`` for a mixture.

    Raises:
        ConfigError: If a value is out of its range.
    """

    #: Version of the drawing rules. Raise it whenever the pixels or
    #: expressions made from the same parameters change.
    VERSION: ClassVar[int] = 2

    train_videos: int = 300
    valid_videos: int = 40
    frames: int = 8
    height: int = 128
    width: int = 192
    seed: int = 0
    first_kind: int = 0
    kinds: int = 10
    cue: str = 'all'

    def __post_init__(self) -> None:
        check_choice('cue', self.cue, ('all', *CUES))
        limits = {
            'train_videos': (0, None),
            'valid_videos': (0, None),
            'frames': (4, None),
            'height': (64, None),
            'width': (self.height, None),
            'seed': (0, None),
            'first_kind': (0, len(KINDS) - 2),
            'kinds': (2, len(KINDS) - self.first_kind),
        }
        for name, (least, most) in limits.items():
            value = getattr(self, name)
            if value < least or (most is not None and value > most):
                limit = f'at least {least}'
                if most is not None:
                    limit += f' and at most {most}'
                raise ConfigError(f'{name} is {value}; it must be {limit}.')

    @property
    def kind_names(self) -> tuple[str, ...]:
        """The kinds that appear."""
        return tuple(KINDS)[self.first_kind :][: self.kinds]

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
