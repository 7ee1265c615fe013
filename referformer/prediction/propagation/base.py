# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""What a mask propagator is.

A propagator carries the mask of a key frame through a video, in both
directions. :func:`~referformer.prediction.propagation.video.propagate` reads
the frames, chooses the key frames and fuses the masks; a propagator only
says how masks get from one frame to the next:

.. code-block:: text

    encode(image)            once for each frame, for all objects
    start(frame, masks)      at a key frame, with the masks of its objects
    step(frame)              at each of the next frames: masks and scores

``docs/propagation.md`` has a complete example.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.registry import DefaultScope

from referformer.errors import ConfigError
from referformer.registry import TASK_UTILS
from referformer.utils.configs import read_config


class ScoredMasks(NamedTuple):
    """Masks of n objects in one frame.

    Attributes:
        masks (np.ndarray): bool, shape (n, H, W).
        scores (np.ndarray): In [0, 1], shape (n,).
    """

    masks: np.ndarray
    scores: np.ndarray


class MaskTracker(ABC):
    """The objects of one key frame, on their way in one direction."""

    @abstractmethod
    def step(self, frame: Any, index: int) -> ScoredMasks:
        """Carry the masks to the next frame.

        Args:
            frame (Any): The frame, as ``encode`` returned it.
            index (int): Its number in the video: one more than in the step
                before, or one less if the tracker goes backward.

        Returns:
            ScoredMasks: Of the n objects, at the size of the picture. A score
            says how sure the tracker is to be still on the object.
        """


class MaskPropagator(ABC):
    """Base class of propagators; register a subclass in ``TASK_UTILS``.

    Args:
        key_frames (dict): Rule that chooses the frames whose masks are
            propagated. Defaults to the published one, the frame with the best
            score; see :mod:`~referformer.prediction.propagation.key_frames`.
        fusion (dict): Rule that chooses between the model's own mask and the
            propagated one; see
            :mod:`~referformer.prediction.propagation.fusion`.
        absent_score (float, optional): A frame counts as *without the object*
            if the model's own mask is empty there, or its score in the frame
            is below this number. Such a frame gets an empty mask and is never
            a key frame. None fills all frames, as published.

    Attributes:
        cfg (dict | None): The config that it was built from.

    Raises:
        ConfigError: If ``absent_score`` is not in [0, 1].
    """

    cfg: dict | None = None

    def __init__(
        self,
        key_frames: dict | None = None,
        fusion: dict | None = None,
        absent_score: float | None = 0.0,
    ) -> None:
        if absent_score is not None and not 0 <= absent_score <= 1:
            raise ConfigError(
                f'absent_score must be in [0, 1] or None, got {absent_score}'
            )
        self.key_frames = TASK_UTILS.build(key_frames or {'type': 'BestFrame'})
        self.fusion = TASK_UTILS.build(fusion or {'type': 'Replace'})
        self.absent_score = absent_score

    def prepare(self, device: torch.device) -> None:  # noqa: B027
        """Get ready for a video: weights are loaded here.

        Args:
            device (torch.device): Where the model that segments is.
        """

    def encode(self, image: np.ndarray, before: Any = None) -> Any:
        """Compute what depends on the frame alone, once for all objects.

        Args:
            image (np.ndarray): uint8, BGR, shape (H, W, 3).
            before (Any): The frame that was encoded before this one, the
                neighbour in time; None for the first.

        Returns:
            Any: What ``start`` and ``step`` get of the frame.
        """
        return image

    @abstractmethod
    def start(
        self,
        frame: Any,
        masks: np.ndarray,
        index: int,
        length: int,
        forward: MaskTracker | None = None,
    ) -> MaskTracker:
        """Start at a key frame.

        It is called twice: the first tracker goes forward to the end of the
        video, the second goes backward to its beginning.

        Args:
            frame (Any): The key frame, as ``encode`` returned it.
            masks (np.ndarray): Masks of the n objects that have this key
                frame, none of them empty, bool, shape (n, H, W).
            index (int): Number of the key frame in the video.
            length (int): Frames of the video.
            forward (MaskTracker, optional): For the second call, the tracker
                of the first.
        """


def read_propagator(propagator: dict | str | None) -> dict | None:
    """Return the config of a propagator, None for none.

    Args:
        propagator (dict | str, optional): The config; ``'flow'``,
            :class:`FlowPropagator` as it is; ``'none'``; or a config file
            with a variable ``propagator``.

    Raises:
        ConfigError: If it is none of these.
    """
    found: Any = propagator
    if propagator in (None, 'none'):
        return None
    if propagator == 'flow':
        found = {'type': 'FlowPropagator'}
    elif isinstance(propagator, str) and Path(propagator).is_file():
        found = read_config(propagator).get('propagator')
    if not isinstance(found, dict) or 'type' not in found:
        raise ConfigError(
            f"propagator is {propagator!r}; give 'flow', 'none', a dict such "
            "as dict(type='FlowPropagator'), or a config file with "
            'propagator = dict(type=...).',
            value=propagator,
        )
    return dict(found)


def build_propagator(
    propagator: MaskPropagator | dict | str | None,
) -> MaskPropagator | None:
    """Build a propagator from what :func:`read_propagator` takes.

    Raises:
        ConfigError: If it is not the config of a propagator.
    """
    if isinstance(propagator, MaskPropagator):
        return propagator
    cfg = read_propagator(propagator)
    if cfg is None:
        return None
    with DefaultScope.overwrite_default_scope('referformer'):
        built = TASK_UTILS.build(cfg)
    if not isinstance(built, MaskPropagator):
        raise ConfigError(
            f'propagator.type is {cfg["type"]}, which is not derived from '
            'MaskPropagator.',
            value=cfg['type'],
        )
    built.cfg = cfg
    return built
