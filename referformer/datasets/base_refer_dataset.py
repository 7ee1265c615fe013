# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""What all datasets of referring expressions have in common."""

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from mmengine.dataset import BaseDataset, force_full_init

from referformer.datasets.items import ItemId, Items
from referformer.errors import (
    ConfigError,
    DataError,
    MediaError,
    check_choice,
    report_error,
)
from referformer.formats.expressions import VideoEntry
from referformer.registry import DATASETS
from referformer.utils.seeding import seed_sample

#: Arguments and keys of clips by the names that they had before.
_RENAMED = {
    'clip_length': 'start_stride',
    'num_frames': 'video_length',
    'annotated': 'annotated_frame_id',
    'mask_frame': 'annotated_frame_id',
    'mask_path': 'masks_file',
}
#: Samples that may fail in a row, or lack the object before any has shown it.
_MAX_FAILED = 50


def _refuse_old_names(where: str, names: Collection[str]) -> None:
    for old in names:
        if old in _RENAMED and _RENAMED[old] not in names:
            raise ConfigError(
                f'{where} has "{old}", which is called "{_RENAMED[old]}" now; '
                'rename it.'
            )


@DATASETS.register_module()
class BaseReferDataset(BaseDataset):
    """Base of the datasets that pair a video with an expression.

    A subclass implements :meth:`load_expressions`. It returns one dict per
    (video, expression); the transforms of this package rely on these keys:

    ================= =========================================================
    ``video_id``      str, name of the video
    ``exp_id``        str, name of the expression within the video
    ``text``          str, the expression, not empty
    ``obj_id``        str, the object it means; ``None`` if not published
    ``label``         int, class of the object, 0 unless classes are told apart
    ``video_length``  int, frames of the whole video
    ``frame_names``   list[str], names of all frames in temporal order
    ``img_dir``       str, folder with ``<frame_name><img_suffix>``; other
                      suffixes of pictures are found as well
    ``img_suffix``    str
    ``mask_dir``      str, folder with ``<frame_name><mask_suffix>``; ``None``
                      if there is no ground truth
    ``mask_suffix``   str
    ================= =========================================================

    Where masks are not maps of object ids, or not for every frame, or frames
    and masks are not files in folders at all, a clip also has

    ======================= ===================================================
    ``mask_value``          int, the value that means the object in its mask,
                            if that is not ``obj_id``
    ``mask_missing``        ``'absent'`` if a missing file means that the frame
                            does not show the object; else it is an error
    ``video_path``          str, the video file whose frames they are
    ``masks_file``          str, one file with masks in another form
    ``rles``                encoded masks, however the dataset's own loading
                            transform expects them
    ``annotated_frame_id``  int, position of the only annotated frame
    ``attributes``          dict[str, str], of which kind the expression is, as
                            ``{'type': 'static'}``; scores are grouped by it
    ======================= ===================================================

    Further keys are facts of the expression. They travel along to every
    frame; ``extra_clip_keys`` of ``PackReferInputs`` passes them on to
    models and metrics.

    In training, each clip becomes several items: one per start frame
    ``0, start_stride, 2 * start_stride, ...``, named by the additional key
    ``start_frame``; of a clip with a single annotated frame, one that starts
    there. In test mode an item is a whole video with one expression, or
    with all of them. :class:`~referformer.datasets.items.Items` stores them
    without repetition; ``filter_data`` sees the clips.

    Args:
        *args: ``ann_file``, relative to ``data_root``, the folder of the set.
        start_stride: Distance between the start frames of training items;
            the published recipe uses the length T of a clip.
        expression_from: ``'self'``, or ``'other_object'`` to give every clip
            an expression of *another* object of its video while ``obj_id``
            and the masks stay: a model that listens must then score badly.
            Only in test mode. Videos with one object are left out. The
            item tells in ``text_obj_id`` whom the expression is about.
        group_by_video: Whether an item is a video with all of its
            expressions, so that frames are read and seen only once: the
            key ``expressions`` lists the facts of each, such as ``text``
            and ``mask_dir``. Only in test mode. Clips of one video that show
            different frames stay apart.
        on_error: What a sample does in training whose files are missing or
            damaged: ``'raise'`` stops, ``'skip'`` takes another one and notes
            the sample in the metainfo ``skipped`` of the one that replaces
            it, which ``SkippedSamplesHook`` counts. With
            ``SeededSampler``, the seed of the sample decides which one
            replaces it.
        **kwargs: Other arguments of :class:`mmengine.dataset.BaseDataset`.

    Raises:
        ConfigError: If an argument is unusable.
        MissingDataError: If a file or folder is missing.
        DataError: If a file does not hold what it should.
    """

    METAINFO: ClassVar[dict] = {
        'classes': ('object',),
        'palette': [(220, 60, 60)],
    }

    #: Whether the items of a video show different frames.
    ONE_FRAME_EACH: ClassVar[bool] = False

    items: Items

    def __init__(
        self,
        *args: Any,
        start_stride: int = 1,
        expression_from: str = 'self',
        group_by_video: bool = False,
        on_error: Literal['raise', 'skip'] = 'raise',
        test_mode: bool = False,
        **kwargs: Any,
    ) -> None:
        _refuse_old_names(f'The config of {type(self).__name__}', kwargs)
        if start_stride < 1:
            raise ConfigError(
                f'start_stride is {start_stride}; it must be at least 1.'
            )
        check_choice(
            'expression_from', expression_from, ('self', 'other_object')
        )
        if expression_from == 'other_object' and not test_mode:
            raise ConfigError(
                'expression_from="other_object" would train on wrong '
                'expressions; set test_mode=True.'
            )
        if group_by_video and not test_mode:
            raise ConfigError(
                'group_by_video=True gives items without a single expression, '
                'which cannot be trained on; set test_mode=True.'
            )
        if group_by_video and self.ONE_FRAME_EACH:
            raise ConfigError(
                'group_by_video=True is not possible: items of one video of '
                f'{type(self).__name__} show different frames.'
            )
        check_choice('on_error', on_error, ('raise', 'skip'))
        if on_error == 'skip' and test_mode:
            raise ConfigError(
                'on_error="skip" would leave samples out of the scores; it '
                'is for training.'
            )
        self.on_error = on_error
        #: Whether a clip was drawn that shows its object.
        self._found_object = False
        self.group_by_video = group_by_video
        self.start_stride = start_stride
        self.expression_from = expression_from
        super().__init__(*args, test_mode=test_mode, **kwargs)

    def full_init(self) -> None:
        """Read the annotations; see :class:`mmengine.dataset.BaseDataset`."""
        if self._fully_initialized:
            return
        self.data_list = self.load_data_list()
        clips = self.filter_data()
        self.items = Items(
            clips,
            start_frames=None if self.test_mode else self._start_frames,
            grouped=self.group_by_video,
            serialize=self.serialize_data,
        )
        self.data_list = []
        if self._indices is not None:
            self.items = self.items.subset(self._indices)
        self._fully_initialized = True

    @force_full_init
    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, idx: int) -> dict:
        """Return a sample whose random numbers depend on its index.

        In training, a clip that does not show its object is replaced by
        another one, and so is one that cannot be read, if ``on_error`` says
        so.

        Args:
            idx: What the sampler sent; a ``SeededIndex`` carries the seed
                of the sample, a plain index leaves the generators alone.

        Raises:
            DataError: If a file is missing or wrong, or no object is found.
            MediaError: If a frame or video is missing or damaged.
        """
        seed_sample(idx)
        if self.test_mode:
            return super().__getitem__(idx)
        self.full_init()
        skipped: list[str] = []
        for tries in range(1, self.max_refetch + 2):
            try:
                sample = self.prepare_data(idx)
            except (DataError, MediaError) as error:
                if self.on_error == 'raise':
                    raise
                if len(skipped) == _MAX_FAILED:
                    raise DataError(
                        f'{_MAX_FAILED} samples in a row could not be read, '
                        f'and then: {error}',
                        file=error.file,
                        code=error.code,
                    ) from error
                item, sample = self.item_id(idx), None
                skipped.append(f'{item.video_id}/{item.exp_id}: {error}')
            if sample is not None:
                self._found_object = True
                if skipped:
                    facts = {'skipped': skipped}
                    sample['data_samples'].set_metainfo(facts)
                return sample
            if tries == _MAX_FAILED and not (self._found_object or skipped):
                break
            idx = self._rand_another()
        raise DataError(
            f'none of {tries} clips drawn from {self.ann_file} shows its '
            'object in any frame',
            file=self.ann_file,
            remedy='look whether the masks are empty, or hold other values '
            'than the obj_id of the expressions.',
            code='object-never-seen',
        )

    @force_full_init
    def get_data_info(self, idx: int) -> dict:
        """Return an item as the pipeline gets it."""
        return {
            **self.items[idx],
            'sample_idx': idx if idx >= 0 else len(self) + idx,
        }

    @force_full_init
    def item_id(self, idx: int) -> ItemId:
        """Describe an item; quicker than :meth:`get_data_info`."""
        return self.items.id(idx)

    @force_full_init
    def has_truth(self) -> bool:
        """Return whether the first item has an expression with an object."""
        first = self.items[0]
        clips = first.get('expressions', [first])
        return any(clip['obj_id'] is not None for clip in clips)

    @force_full_init
    def get_subset_(self, indices: int | Sequence[int]) -> None:
        """Keep only some items; see :meth:`Items.subset`."""
        self.items = self.items.subset(indices)

    @force_full_init
    def get_subset(self, indices: int | Sequence[int]) -> 'BaseReferDataset':
        """Return a dataset of some of the items; see :meth:`Items.subset`."""
        other = self._copy_without_annotation(memo={})
        other.data_list = []
        other.get_subset_(indices)
        return other

    @abstractmethod
    def load_expressions(self) -> list[dict]:
        """Return one dict per (video, expression); see the class."""

    def report(
        self, code: str, message: str, file: str | Path | None = None
    ) -> None:
        """Raise an error about the data, or list it, see ``report_error``.

        Args:
            code: Name of this kind of fault, see ``datasets/doctor``.
            message: What is wrong, and what to do.
            file: Where; the annotation file if ``None``.

        Raises:
            DataError: Unless errors are collected.
        """
        file = file or self.ann_file
        report_error(DataError(f'{file}: {message}', file=file, code=code))

    def frame_facts(self, video_id: str, video: VideoEntry) -> dict:
        """Return the keys of a clip whose frames are in ``<img>/<video>/``.

        Args:
            video_id: Name of the video.
            video: The video in the expressions file.
        """
        return {
            'video_id': video_id,
            'video_length': len(video['frames']),
            'frame_names': video['frames'],
            'img_dir': f'{self.data_prefix["img"]}/{video_id}',
            'img_suffix': '.jpg',
        }

    def load_data_list(self) -> list[dict]:
        """Return the clips of which the items are made.

        Raises:
            DataError: If there is none, or training lacks ground truth.
        """
        clips = self.load_expressions()
        if self.expression_from == 'other_object':
            clips = self._exchange_expressions(clips)
        if not clips:
            raise DataError(
                f'{self.ann_file} yields no clip; check that it belongs to '
                'the configured split.',
                file=self.ann_file,
                code='expression-none',
            )
        _refuse_old_names(f'A clip of {type(self).__name__}', clips[0])
        for clip in () if self.test_mode else clips:
            if clip['obj_id'] is None or all(
                clip.get(key) is None
                for key in ('mask_dir', 'masks_file', 'rles')
            ):
                self.report(
                    'object-id-missing',
                    f'expression {clip["exp_id"]} of video '
                    f'{clip["video_id"]} has no ground truth (obj_id and '
                    'masks), which training needs; set test_mode=True to '
                    'predict.',
                )
        return clips

    def _start_frames(self, clip: dict) -> Sequence[int]:
        """Return the start frames of the training items of a clip."""
        if clip.get('annotated_frame_id') is not None:
            return (clip['annotated_frame_id'],)
        return range(0, clip['video_length'], self.start_stride)

    def _exchange_expressions(self, clips: list[dict]) -> list[dict]:
        """Give each clip an expression of the next object of its video.

        The k-th expression of an object is replaced by the k-th of the next
        object (cyclically in both), so the choice is deterministic and all
        objects are referred to.
        """
        by_video: dict[str, dict[str, list[dict]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for clip in clips:
            if clip['obj_id'] is None:
                raise DataError(
                    f'{self.ann_file}: video {clip["video_id"]} has no '
                    'obj_id, so expression_from="other_object" cannot know '
                    'the other objects.',
                    file=self.ann_file,
                )
            by_video[clip['video_id']][clip['obj_id']].append(clip)
        exchanged = []
        for clip in clips:
            by_object = by_video[clip['video_id']]
            objects = list(by_object)
            if len(objects) < 2:
                continue
            position = objects.index(clip['obj_id'])
            other = by_object[objects[(position + 1) % len(objects)]]
            source = other[by_object[clip['obj_id']].index(clip) % len(other)]
            of_text = {'text', 'attributes'} & source.keys()
            exchanged.append(
                {
                    **clip,
                    **{key: source[key] for key in of_text},
                    'text_obj_id': source['obj_id'],
                }
            )
        return exchanged
