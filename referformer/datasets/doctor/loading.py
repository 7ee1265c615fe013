# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The part of a pipeline that reads files, one frame at a time.

A transform reads files if its class, or one that it inherits from, is called
``Load...``, and chooses frames if it is called ``Sample...``: this holds for
mmcv, mmdet and this package. What follows the last one that reads is left out,
and so are the other transforms of these packages before it (resizing, colours,
words); transforms of other packages before it are kept, since they may prepare
what it needs. The sampler is replaced by one that takes every frame.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from mmcv.transforms import (
    BaseTransform,
    Compose,
    KeyMapper,
    RandomApply,
    RandomChoice,
    TransformBroadcaster,
)

from referformer.datasets.transforms.frame_sampling import to_frames

_PACKAGES = ('mmcv', 'mmdet', 'mmengine', 'referformer')


class Step(NamedTuple):
    """A transform of a pipeline.

    Attributes:
        transform: The transform.
        per_frame: Whether it takes a frame, not a clip.
        top: Position in the pipeline of what it is part of.
    """

    transform: BaseTransform
    per_frame: bool
    top: int

    @property
    def is_kept(self) -> bool:
        """Whether it reads, or may prepare what others read."""
        package = type(self.transform).__module__.split('.')[0]
        return _is_called(self.transform, 'Load') or package not in _PACKAGES

    def __call__(self, frames: list[dict]) -> list[dict]:
        """Transform the frames of a clip."""
        if self.per_frame:
            return [self.transform(frame) for frame in frames]
        clip = {key: [frame[key] for frame in frames] for key in frames[0]}
        return _to_dicts(self.transform(clip))


class Loading:
    """What a pipeline reads.

    Args:
        pipeline (Sequence): The transforms of a dataset.

    Attributes:
        whole (list): The transforms up to the last one that reads.
        by_frame (bool): Whether the pipeline samples frames before it reads
            them; if not, only ``whole`` can be used, on a whole item.
        after_frames (list): The steps behind the one that gave ``img``; known
            once a frame was read.
    """

    def __init__(self, pipeline: Sequence[Any]) -> None:
        steps = [
            step
            for top, transform in enumerate(pipeline)
            for step in _flatten(transform, False, top)
        ]
        while steps and not _is_called(steps[-1].transform, 'Load'):
            steps.pop()
        self.whole = list(pipeline[: steps[-1].top + 1]) if steps else []
        samples = [_is_called(step.transform, 'Sample') for step in steps]
        self.by_frame = any(samples)
        start = samples.index(True) if self.by_frame else 0
        self._before = [step for step in steps[:start] if step.is_kept]
        self._steps = [
            step
            for step, sampler in zip(steps, samples, strict=True)
            if step.is_kept and not sampler
        ][len(self._before) :]
        self.after_frames: list[Step] = []

    def prepare(self, item: dict) -> dict:
        """Do what comes before the sampler."""
        for step in self._before:
            item = step.transform(item)
        return item

    def read_frames(self, item: dict, positions: Sequence[int]) -> list[dict]:
        """Read frames, but not their annotations.

        Args:
            item: Describes a video.
            positions: Frames to read.

        Returns:
            The frames with ``img``.
        """
        frames = open_frames(item, positions)
        for s, step in enumerate(self._steps, 1):
            frames = step(frames)
            if 'img' in frames[0]:
                self.after_frames = self._steps[s:]
                break
        return frames


def open_frames(item: dict, positions: Sequence[int]) -> list[dict]:
    """Return frames of a video of which nothing is read yet."""
    annotated = item.get('annotated_frame_id')  # it may not be among them
    clip = to_frames({**item, 'annotated_frame_id': None}, positions)
    clip['annotated_frame_id'] = [annotated] * len(positions)
    return _to_dicts(clip)


def _to_dicts(clip: dict[str, list]) -> list[dict]:
    """Turn lists with a value for each frame into a dict for each frame."""
    length = len(next(iter(clip.values())))
    return [{key: clip[key][t] for key in clip} for t in range(length)]


def _inner(transform: Any) -> list[Any]:
    """Return the transforms within a transform."""
    if isinstance(transform, Compose):
        return list(transform.transforms)
    if isinstance(transform, KeyMapper | RandomApply):
        return [transform.transforms]
    return transform.transforms if isinstance(transform, RandomChoice) else []


def _is_called(transform: Any, prefix: str) -> bool:
    """Whether a class, a base of it or one within has such a name."""
    bases = type(transform).__mro__
    return any(base.__name__.startswith(prefix) for base in bases) or any(
        _is_called(inner, prefix) for inner in _inner(transform)
    )


def _flatten(transform: Any, per_frame: bool, top: int) -> Iterator[Step]:
    """Yield the transforms within others."""
    inner = _inner(transform)
    # one that renames keys stays whole
    if not inner or getattr(transform, 'mapping', None):
        yield Step(transform, per_frame, top)
        return
    for part in inner:
        per_frame |= isinstance(transform, TransformBroadcaster)
        yield from _flatten(part, per_frame, top)
