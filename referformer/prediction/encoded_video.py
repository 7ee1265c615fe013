# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Videos whose features are kept, so that further expressions cost less.

.. code-block:: text

    first expression    frames ─ encode_video ─┬─ predict_video
                                               ▼
                           windows that fit into a FeatureMemory
                                               │
    any further one                            └─ predict_video
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace

import numpy as np
from torch import Tensor
from torch.utils._pytree import tree_leaves

from referformer.media.sources import FrameSource
from referformer.models import ReferFormer
from referformer.prediction.predictor import (
    EncodedWindow,
    Predictor,
    device_of,
)
from referformer.prediction.stream import (
    FrameResult,
    PreparedFrame,
    encode_video,
    predict_video,
    propagate_results,
)
from referformer.structures import VisualFeatures


class FeatureMemory:
    """Memory for the features of several videos.

    A video that needs room takes it from those that were used longest ago.

    Args:
        max_bytes (int): Bytes of all features together.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        #: Those used last come last.
        self._videos: list[EncodedVideo] = []

    @property
    def num_bytes(self) -> int:
        """Bytes that are taken."""
        return sum(video.num_bytes for video in self._videos)

    def use(self, video: 'EncodedVideo') -> None:
        """Note that a video is used now."""
        self.forget(video)
        self._videos.append(video)

    def forget(self, video: 'EncodedVideo') -> None:
        """Leave a video out from now on."""
        self._videos = [each for each in self._videos if each is not video]

    def make_room(self, num_bytes: int, video: 'EncodedVideo') -> bool:
        """Drop features of other videos until some more of one fit.

        Returns:
            bool: Whether they fit.
        """
        for other in list(self._videos):
            if self.num_bytes + num_bytes <= self.max_bytes:
                break
            if other is not video:
                other.drop()
        return self.num_bytes + num_bytes <= self.max_bytes


class EncodedVideo:
    """A video whose expressions can be changed one by one.

    The features of its frames are kept as far as they fit into the memory;
    windows that do not fit are encoded anew for each call of :meth:`predict`.
    The results are the same, bit for bit, with and without kept features.
    It must not be used by two threads at the same time.

    Args:
        model (ReferFormer): The model, in evaluation mode.
        source (FrameSource): The video.
        prepare (Callable): Frame -> what the network gets, both uint8, BGR.
        memory (FeatureMemory): Where features are kept.
        predictor (Predictor, optional): Windows, linking, thresholds. None is
            the model's own.
    """

    def __init__(
        self,
        model: ReferFormer,
        source: FrameSource,
        prepare: Callable[[np.ndarray], np.ndarray],
        memory: FeatureMemory,
        predictor: Predictor | None = None,
    ) -> None:
        self.model = model
        self.source = source
        self.prepare = prepare
        self.memory = memory
        predictor = predictor or model.predictor
        self.predictor = predictor.resolved(device_of(model))
        self.num_bytes = 0
        #: The first windows of the video.
        self._kept: list[EncodedWindow[PreparedFrame]] = []

    @property
    def frames_kept(self) -> int:
        """How many of the first frames have features in memory."""
        if not self._kept:
            return 0
        window = self._kept[-1].window
        return window.number * self._step + len(window.frames)

    @property
    def frames_left(self) -> int:
        """Frames the next call encodes, those two windows share twice."""
        rest = len(self.source) - len(self._kept) * self._step
        if self.frames_kept == len(self.source):
            return 0
        overlap = self.predictor.overlap
        windows = max(1, -(-(rest - overlap) // self._step))
        return rest + (windows - 1) * overlap

    @property
    def _step(self) -> int:
        """Frames from the beginning of a window to that of the next."""
        return self.predictor.window - self.predictor.overlap

    def drop(self) -> None:
        """Free the features. The next call encodes the frames again."""
        self._kept = []
        self.num_bytes = 0

    def close(self) -> None:
        """Free the features and leave the memory."""
        self.drop()
        self.memory.forget(self)

    def predict(
        self,
        texts: Sequence[str],
        encoded: Callable[[int], None] = lambda frames: None,
    ) -> Iterator[FrameResult]:
        """Predict expressions in all frames.

        Args:
            texts (Sequence[str]): E expressions, normalised as in training.
            encoded (Callable): Called with the number of frames whenever a
                window has been encoded.

        Yields:
            FrameResult: One per frame, in order, without pictures.
        """
        self.memory.use(self)
        results = predict_video(
            self.model, self._windows(encoded), texts, self.predictor
        )
        propagator = self.predictor.propagator
        if propagator is not None:
            device = device_of(self.model)
            propagator.prepare(device)
            results = propagate_results(
                propagator, self.source, results, device, keep_images=False
            )
        yield from results

    def _windows(
        self, encoded: Callable[[int], None]
    ) -> Iterator[EncodedWindow[PreparedFrame]]:
        """Yield the kept windows, and encode the others."""
        # other videos may take the memory on the way
        kept = list(self._kept)
        done = self.frames_kept
        yield from kept
        first = len(kept)
        del kept
        if done == len(self.source):
            return
        rest = replace(
            self.source,
            indices=self.source.indices[first * self._step :],
            times=self.source.times[first * self._step :],
        )
        windows = encode_video(
            self.model,
            rest,
            self.prepare,
            self.predictor,
            keep_images=False,
            frame_bytes=self.source.frame_bytes,
            first=first,
        )
        with closing(windows):
            for window in windows:
                self._keep(window)
                encoded(len(window.window.frames))
                yield window
                del window

    def _keep(self, encoded: EncodedWindow[PreparedFrame]) -> None:
        """Keep a window if it fits and those before it are kept."""
        if encoded.window.number != len(self._kept):
            return
        num_bytes = _bytes_of(encoded.visual)
        num_bytes += sum(image.nbytes for _, image in encoded.window.frames)
        if self.memory.make_room(num_bytes, self):
            self._kept.append(encoded)
            self.num_bytes += num_bytes


def _bytes_of(visual: VisualFeatures) -> int:
    """Bytes of the tensors, those that share their memory once."""
    storages = {
        storage.data_ptr(): storage.nbytes()
        for leaf in tree_leaves(visual)
        if isinstance(leaf, Tensor)
        for storage in [leaf.untyped_storage()]
    }
    return sum(storages.values())
