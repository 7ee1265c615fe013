# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""What all datasets of referring expressions have in common."""

from abc import abstractmethod
from collections import defaultdict
from typing import Any, ClassVar

from mmengine.dataset import BaseDataset

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

    Further keys are facts of the clip, copied along to every frame.

    In training, each of them becomes several items: one per start frame
    ``0, clip_length, 2 * clip_length, ...``, named by the additional key
    ``anchor``. In test mode an item is a whole video.

    Args:
        clip_length: Distance between the start frames of training items;
            the published recipe uses the length T of a clip.
        expression_from: ``'self'``, or ``'other_object'`` to give every clip
            an expression of *another* object of its video while ``obj_id``
            and the masks stay: a model that listens must then score badly.
            Only in test mode. Videos with one object are left out. The
            item tells in ``text_obj_id`` whom the expression is about.
        **kwargs: Arguments of :class:`mmengine.dataset.BaseDataset`.

    Raises:
        ValueError: If an argument or the data is unusable.
    """

    METAINFO: ClassVar[dict] = {
        'classes': ('object',),
        'palette': [(220, 60, 60)],
    }

    def __init__(
        self,
        *args: Any,
        clip_length: int = 1,
        expression_from: str = 'self',
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
            return clips
        for clip in clips:
            if clip['obj_id'] is None or clip['mask_dir'] is None:
                raise ValueError(
                    f'{self.ann_file}: expression {clip["exp_id"]} of video '
                    f'{clip["video_id"]} has no ground truth (obj_id and '
                    'masks), which training needs; set test_mode=True to '
                    'predict.'
                )
        return [
            {**clip, 'anchor': anchor}
            for clip in clips
            for anchor in range(0, clip['num_frames'], self.clip_length)
        ]

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
