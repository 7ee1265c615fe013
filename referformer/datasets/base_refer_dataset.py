# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""What all datasets of referring expressions have in common."""

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, ClassVar

from mmengine.dataset import BaseDataset

from referformer.formats.expressions import VideoEntry
from referformer.registry import DATASETS
from referformer.utils.seeding import seed_sample


@DATASETS.register_module()
class BaseReferDataset(BaseDataset):
    """Base of the datasets that pair a video with an expression.

    A subclass implements :meth:`load_expressions`. It returns one dict per
    (video, expression); the transforms of this package rely on these keys:

    ============== ====================================================
    ``video_id``    str, name of the video
    ``exp_id``      str, name of the expression within the video
    ``text``        str, the expression, not empty
    ``obj_id``      str, the object meant; ``None`` if not published
    ``label``       int, class of the object, 0 unless classes are told
                    apart
    ``num_frames``  int, frames of the whole video
    ``frame_names`` list[str], names of all frames in temporal order
    ``img_dir``     str, folder with ``<frame_name><img_suffix>``
    ``img_suffix``  str
    ``mask_dir``    str, folder with ``<frame_name><mask_suffix>``;
                    ``None`` if there is no ground truth
    ``mask_suffix`` str
    ============== ====================================================

    Where frames and masks are not files in folders, a clip has instead

    ============== ====================================================
    ``video_path``  str, the video file whose frames they are
    ``mask_path``   str, one file with the masks of all frames
    ``rles``        encoded masks, however the dataset's own loading
                    transform expects them
    ``annotated``   int, position of the only annotated frame
    ============== ====================================================

    Further keys are facts of the clip, copied along to every frame.

    In training, each of them becomes several items: one per start frame
    ``0, clip_length, 2 * clip_length, ...``, named by the additional key
    ``anchor``; of a clip with a single annotated frame, one that starts
    there. In test mode an item is a whole video with one expression, or
    with all of them.

    Args:
        clip_length: Distance between the start frames of training items;
            the published recipe uses the length T of a clip.
        expression_from: ``'self'``, or ``'other_object'`` to give every clip
            an expression of *another* object of its video while ``obj_id``
            and the masks stay: a model that listens must then score badly.
            Only in test mode. Videos with one object are left out. The
            item tells in ``text_obj_id`` whom the expression is about.
        group_by_video: Whether an item is a video with all of its
            expressions, so that frames are read and seen only once: the
            key ``expressions`` lists dicts of :attr:`EXPRESSION_KEYS`, which
            the item itself then lacks. Only in test mode.
        **kwargs: Arguments of :class:`mmengine.dataset.BaseDataset`.

    Raises:
        ValueError: If an argument or the data is unusable.
    """

    METAINFO: ClassVar[dict] = {
        'classes': ('object',),
        'palette': [(220, 60, 60)],
    }
    #: What differs between the expressions of a video.
    EXPRESSION_KEYS: ClassVar[tuple[str, ...]] = (
        'exp_id',
        'text',
        'text_obj_id',
        'obj_id',
        'label',
    )

    def __init__(
        self,
        *args: Any,
        clip_length: int = 1,
        expression_from: str = 'self',
        group_by_video: bool = False,
        test_mode: bool = False,
        **kwargs: Any,
    ) -> None:
        if clip_length < 1:
            raise ValueError(
                f'clip_length is {clip_length}; it must be at least 1.'
            )
        if expression_from not in ('self', 'other_object'):
            raise ValueError(
                f'expression_from is {expression_from!r}; use "self" or '
                '"other_object".'
            )
        if expression_from == 'other_object' and not test_mode:
            raise ValueError(
                'expression_from="other_object" teaches nonsense in '
                'training; set test_mode=True.'
            )
        if group_by_video and not test_mode:
            raise ValueError(
                'group_by_video=True gives items without a single expression, '
                'which cannot be trained on; set test_mode=True.'
            )
        self.group_by_video = group_by_video
        self.clip_length = clip_length
        self.expression_from = expression_from
        super().__init__(*args, test_mode=test_mode, **kwargs)

    def __getitem__(self, idx: int) -> dict:
        """Return a sample whose random numbers depend on its index.

        Args:
            idx: What the sampler sent; a ``SeededIndex`` carries the seed
                of the sample, a plain index leaves the generators alone.
        """
        seed_sample(idx)
        return super().__getitem__(idx)

    @abstractmethod
    def load_expressions(self) -> list[dict]:
        """Return one dict per (video, expression); see the class."""

    def frame_facts(self, video_id: str, video: VideoEntry) -> dict:
        """Return what a clip says of frames in ``<img>/<video>/``.

        Args:
            video_id: Name of the video.
            video: The video in the expressions file.
        """
        return {
            'video_id': video_id,
            'num_frames': len(video['frames']),
            'frame_names': video['frames'],
            'img_dir': f'{self.data_prefix["img"]}/{video_id}',
            'img_suffix': '.jpg',
        }

    def load_data_list(self) -> list[dict]:
        """Return the items of the dataset.

        Raises:
            ValueError: If there is none, or training lacks ground truth.
        """
        clips = self.load_expressions()
        if self.expression_from == 'other_object':
            clips = self._exchange_expressions(clips)
        if not clips:
            raise ValueError(
                f'{self.ann_file} yields no clip; check that it belongs to '
                'the configured split.'
            )
        if self.test_mode:
            return self._group(clips) if self.group_by_video else clips
        for clip in clips:
            if clip['obj_id'] is None or all(
                clip.get(key) is None
                for key in ('mask_dir', 'mask_path', 'rles')
            ):
                raise ValueError(
                    f'{self.ann_file}: expression {clip["exp_id"]} of video '
                    f'{clip["video_id"]} has no ground truth (obj_id and '
                    'masks), which training needs; set test_mode=True to '
                    'predict.'
                )
        return [
            {**clip, 'anchor': anchor}
            for clip in clips
            for anchor in self._anchors(clip)
        ]

    def _anchors(self, clip: dict) -> Sequence[int]:
        """Return the start frames of the training items of a clip."""
        if clip.get('annotated') is not None:
            return (clip['annotated'],)
        return range(0, clip['num_frames'], self.clip_length)

    def _group(self, clips: list[dict]) -> list[dict]:
        """Return one item per video, with its expressions in a list."""
        videos: dict[str, dict] = {}
        for clip in clips:
            facts = {
                k: v for k, v in clip.items() if k not in self.EXPRESSION_KEYS
            }
            video = videos.setdefault(
                clip['video_id'], {**facts, 'expressions': []}
            )
            # a video may mix expressions with and without ground truth
            if video.get('mask_dir') is None:
                video['mask_dir'] = facts.get('mask_dir')
            video['expressions'].append(
                {k: clip[k] for k in self.EXPRESSION_KEYS if k in clip}
            )
        return list(videos.values())

    def _exchange_expressions(self, clips: list[dict]) -> list[dict]:
        """Give each clip the words for the next object of its video.

        The k-th expression of an object is replaced by the k-th of the next
        object (cyclically in both), so the choice is the same every time and
        all objects are spoken of.
        """
        spoken: dict[str, dict[str, list[dict]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for clip in clips:
            if clip['obj_id'] is None:
                raise ValueError(
                    f'{self.ann_file}: video {clip["video_id"]} has no '
                    'obj_id, so expression_from="other_object" cannot know '
                    'the other objects.'
                )
            spoken[clip['video_id']][clip['obj_id']].append(clip)
        exchanged = []
        for clip in clips:
            by_object = spoken[clip['video_id']]
            objects = list(by_object)
            if len(objects) < 2:
                continue
            position = objects.index(clip['obj_id'])
            other = by_object[objects[(position + 1) % len(objects)]]
            source = other[by_object[clip['obj_id']].index(clip) % len(other)]
            exchanged.append(
                {
                    **clip,
                    'text': source['text'],
                    'text_obj_id': source['obj_id'],
                }
            )
        return exchanged
