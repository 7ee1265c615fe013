# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The items of a dataset, stored in little memory.

A video of 360 frames and ten expressions makes hundreds of training items.
Common data are stored once: the names of the frames with the video, the
rest with the expression; an item is a pair of integers.
"""

import copy
import pickle
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

#: What tells which frames a clip shows. Clips of one video that differ in any
#: of these show different frames, and are never put together.
FRAME_FACTS = (
    'video_id',
    'video_length',
    'frame_names',
    'img_dir',
    'img_suffix',
    'video_path',
    'frame_stride',
    'annotated_frame_id',
)
#: What belongs to an expression even if all of a video agree on it.
IDENTITY = (
    *('exp_id', 'text', 'text_obj_id', 'obj_id', 'label'),
    'attributes',
)
_NO_START = -1


class ItemId(NamedTuple):
    """What an item is, without its frames.

    Attributes:
        video_id: Name of the video.
        exp_id: Name of the expression; ``None`` for a video with all of its
            expressions.
        obj_id: The object it means, likewise.
        start_frame: Start frame; ``None`` in testing.
        subset: Part of the data set that is scored on its own, if any.
    """

    video_id: str
    exp_id: str | None
    obj_id: str | None
    start_frame: int | None
    subset: str | None = None


class _Records:
    """Dicts, pickled one after another into one array.

    Forked worker processes share the array. They would copy Python objects,
    because reference counts change.

    Args:
        records: The dicts.
        serialize: Keep them as they are instead, if ``False``.
    """

    def __init__(self, records: Iterable[dict], serialize: bool) -> None:
        self.plain: list[dict] | None = None
        if not serialize:
            self.plain = list(records)
            return
        content = bytearray()
        ends = [0]
        for record in records:
            content += pickle.dumps(record, protocol=4)
            ends.append(len(content))
        self.content = np.frombuffer(bytes(content), np.uint8)
        self.ends = np.array(ends, np.int64)

    def __getitem__(self, index: int) -> dict:
        """Return a copy of a dict."""
        if self.plain is not None:
            return copy.deepcopy(self.plain[index])
        start, end = self.ends[index], self.ends[index + 1]
        return pickle.loads(self.content[start:end].data)


class Items:
    """An unchangeable sequence of items; indexing gives fresh dicts.

    Args:
        clips: Clips with one expression each, as
            :meth:`BaseReferDataset.load_expressions` returns them.
        start_frames: Returns the start frames of the items that a clip makes;
            ``None`` makes one item of each clip, without a start frame.
        grouped: Whether an item is a video with all of its expressions.
        serialize: Whether facts are stored as bytes, see
            :class:`mmengine.dataset.BaseDataset`.
    """

    def __init__(
        self,
        clips: Sequence[dict],
        start_frames: Callable[[dict], Sequence[int]] | None = None,
        grouped: bool = False,
        serialize: bool = True,
    ) -> None:
        self.grouped = grouped
        owner, videos = _find_videos(clips)
        self._videos = _Records(videos, serialize)
        self._clips = _Records(
            (
                {
                    k: v
                    for k, v in clip.items()
                    if k not in FRAME_FACTS or k == 'video_id'
                }
                for clip in clips
            ),
            serialize,
        )
        self._owner = np.array(owner, np.int32)
        # the clips of each video, in their order
        self._members = np.argsort(self._owner, kind='stable').astype(np.int32)
        self._starts = np.searchsorted(
            self._owner[self._members], np.arange(len(videos) + 1)
        ).astype(np.int32)
        if grouped or start_frames is None:
            number = np.arange(len(videos) if grouped else len(clips))
            start = np.full(len(number), _NO_START)
        else:
            starts = [np.array(start_frames(clip), np.int32) for clip in clips]
            number = np.repeat(np.arange(len(clips)), [*map(len, starts)])
            start = np.concatenate([np.empty(0, np.int32), *starts])
        #: int32, shape (items, 2): clip, or video if grouped; start frame.
        self._rows = np.stack([number, start], axis=1).astype(np.int32)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict:
        """Return an item.

        Raises:
            IndexError: If there is none.
        """
        number, start_frame = self._rows[index].tolist()
        if self.grouped:
            return self._group(number)
        item = {**self._videos[self._owner[number]], **self._clips[number]}
        if start_frame != _NO_START:
            item['start_frame'] = start_frame
        return item

    def _group(self, video: int) -> dict:
        """Return a video with its expressions.

        Every fact stays with its expression. What they agree on is known of
        the video as well.
        """
        members = self._members[self._starts[video] : self._starts[video + 1]]
        expressions = [self._clips[clip] for clip in members]
        for expression in expressions:
            del expression['video_id']
        first, *others = expressions
        shared = {
            key: value
            for key, value in first.items()
            if key not in IDENTITY
            and all(
                key in other and same(other[key], value) for other in others
            )
        }
        return {**self._videos[video], **shared, 'expressions': expressions}

    def id(self, index: int) -> ItemId:
        """Describe an item without reading the names of its frames."""
        number, start_frame = self._rows[index].tolist()
        if self.grouped:
            start, stop = self._starts[number : number + 2]
            clips = [self._clips[clip] for clip in self._members[start:stop]]
            subsets = {clip.get('subset') for clip in clips}
            subset = subsets.pop() if len(subsets) == 1 else None
            return ItemId(clips[0]['video_id'], None, None, None, subset)
        clip = self._clips[number]
        return ItemId(
            clip['video_id'],
            clip['exp_id'],
            clip['obj_id'],
            None if start_frame == _NO_START else start_frame,
            clip.get('subset'),
        )

    def subset(self, indices: int | Sequence[int]) -> 'Items':
        """Return some of the items; their facts are shared, not copied.

        Args:
            indices: The first so many; the last, if negative; or which.

        Raises:
            IndexError: If there is no such item.
            TypeError: If it is neither a number nor a sequence.
        """
        if isinstance(indices, int):
            chosen = slice(indices) if indices >= 0 else slice(indices, None)
        elif isinstance(indices, Sequence):
            chosen = np.array(indices, np.int64)
        else:
            raise TypeError(
                f'indices is {indices!r}, neither a number nor a sequence.'
            )
        other = copy.copy(self)
        other._rows = self._rows[chosen]
        return other

    def __deepcopy__(self, memo: dict) -> 'Items':
        return self  # nothing in it can change


def same(a: Any, b: Any) -> bool:
    """Return whether two facts are equal; ``False`` where that is unclear."""
    if a is b:
        return True
    try:
        return type(a) is type(b) and bool(a == b)
    except ValueError:  # arrays
        return False


def _find_videos(clips: Sequence[dict]) -> tuple[list[int], list[dict]]:
    """Find out which clips show the same frames.

    Returns:
        For each clip the number of its video, and the facts of each video.
    """
    owner: list[int] = []
    videos: list[dict] = []
    known: dict[str, list[int]] = {}
    for clip in clips:
        facts = {k: clip[k] for k in FRAME_FACTS if k in clip}
        candidates = known.setdefault(clip['video_id'], [])
        for number in candidates:
            other = videos[number]
            if other.keys() == facts.keys() and all(
                same(other[k], v) for k, v in facts.items()
            ):
                break
        else:
            number = len(videos)
            videos.append(facts)
            candidates.append(number)
        owner.append(number)
    return owner, videos
