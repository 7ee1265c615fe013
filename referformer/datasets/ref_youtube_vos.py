# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Ref-YouTube-VOS and everything else in its layout."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from referformer.datasets.base_refer_dataset import BaseReferDataset
from referformer.errors import (
    ConfigError,
    DataError,
    MissingDataError,
    report_error,
)
from referformer.formats.expressions import (
    VideoEntry,
    name_objects,
    read_expressions,
    read_objects,
    read_video_table,
)
from referformer.formats.frames import check_present, sort_names
from referformer.formats.label_maps import is_object_id
from referformer.formats.text_files import show
from referformer.registry import DATASETS

#: The 65 categories of the training videos, in the order in which class
#: heads with 65 outputs number them (alphabetical).
# fmt: off
CATEGORIES = (
    'airplane', 'ape', 'bear', 'bike', 'bird', 'boat', 'bucket', 'bus',
    'camel', 'cat', 'cow', 'crocodile', 'deer', 'dog', 'dolphin', 'duck',
    'eagle', 'earless_seal', 'elephant', 'fish', 'fox', 'frisbee', 'frog',
    'giant_panda', 'giraffe', 'hand', 'hat', 'hedgehog', 'horse', 'knife',
    'leopard', 'lion', 'lizard', 'monkey', 'motorbike', 'mouse', 'others',
    'owl', 'paddle', 'parachute', 'parrot', 'penguin', 'person', 'plant',
    'rabbit', 'raccoon', 'sedan', 'shark', 'sheep', 'sign', 'skateboard',
    'snail', 'snake', 'snowboard', 'squirrel', 'surfboard', 'tennis_racket',
    'tiger', 'toilet', 'train', 'truck', 'turtle', 'umbrella', 'whale',
    'zebra',
)
# fmt: on


@DATASETS.register_module()
class RefYouTubeVOSDataset(BaseReferDataset):
    """Ref-YouTube-VOS.

    ::

        data_root/
        ├── train/
        │   ├── JPEGImages/<video>/<frame>.jpg
        │   ├── Annotations/<video>/<frame>.png    value = object id
        │   └── meta.json                          categories
        ├── valid/JPEGImages/...                   and, if you have them,
        │                                          Annotations/...
        └── meta_expressions/{train,valid,test}/meta_expressions.json

    Args:
        ann_file: Expressions file.
        data_prefix: Folders of the frames (``img``) and of the masks
            (``mask``; leave it out, or ``None``, when there is no ground
            truth; it is not looked at either when the expressions name no
            ``obj_id``, as in the official validation file).
        obj_id_file: Optional expressions file that names the ``obj_id`` which
            ``ann_file`` leaves out, or the sentences by object of the first
            release; expressions of both must read the same.
        meta_file: Optional file with the objects and their categories. With
            it, an ``obj_id`` that the video does not have is an error.
        with_category: Label an object with its category (65 classes) and
            not with "the referred object" (one class, the published models);
            see :attr:`CATEGORIES`.
        exclude_ann_file: Expressions file whose videos are left out. The
            ``valid`` file also lists the videos of ``test``; the official
            validation set is the difference.
        expected_videos: Number of videos that must remain; 202 for the
            official validation set. ``None`` does not check.
        **kwargs: Arguments of :class:`BaseReferDataset`.
    """

    #: The classes of ``with_category``.
    CATEGORIES: ClassVar[tuple[str, ...]] = CATEGORIES
    #: How to get the expected videos.
    SUBSET_HINT: ClassVar[str] = (
        'the official validation set is "valid" without the videos of '
        '"test" (exclude_ann_file).'
    )

    def __init__(
        self,
        ann_file: str,
        *,
        data_prefix: Mapping[str, str] | None = None,
        obj_id_file: str | None = None,
        meta_file: str | None = None,
        with_category: bool = False,
        exclude_ann_file: str | None = None,
        expected_videos: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.with_category = with_category
        self.obj_id_file = obj_id_file
        self.meta_file = meta_file
        self.exclude_ann_file = exclude_ann_file
        self.expected_videos = expected_videos
        if with_category:
            if meta_file is None:
                raise ConfigError(
                    'with_category=True needs meta_file (train/meta.json).'
                )
            metainfo = kwargs.get('metainfo') or {}
            kwargs['metainfo'] = {'classes': self.CATEGORIES, **metainfo}
        if data_prefix is None:
            data_prefix = {
                'img': 'train/JPEGImages',
                'mask': 'train/Annotations',
            }
        data_prefix = {k: v for k, v in data_prefix.items() if v is not None}
        if 'img' not in data_prefix:
            raise ConfigError(
                f'data_prefix is {data_prefix}; it needs "img", the '
                'folder of the frames.'
            )
        super().__init__(ann_file, data_prefix=data_prefix, **kwargs)

    def _beside(self, path: str) -> Path:
        """Return ``path`` relative to the root of the data."""
        return Path(self.data_root or '') / path

    def _read_table(
        self,
        name: str | None,
        what: str,
        missing: str,
        read: Callable[..., dict] = read_video_table,
    ) -> dict:
        """Return the videos of a second file; none if there is no file."""
        if name is None:
            return {}
        try:
            return read(self._beside(name), what)
        except DataError as error:
            if isinstance(error, MissingDataError):
                error.code = missing
            report_error(error)
            return {}

    def load_expressions(self) -> list[dict]:
        """Return one dict per (video, expression)."""
        videos = read_expressions(self.ann_file)
        excluded = self._read_table(
            self.exclude_ann_file,
            'expressions to exclude',
            'test-list-missing',
        )
        videos = {k: v for k, v in videos.items() if k not in excluded}
        if self.expected_videos not in (None, len(videos)):
            self.report(
                'count-wrong',
                f'{len(videos)} videos, expected '
                f'{self.expected_videos}; {self.SUBSET_HINT}',
            )
        named = self._read_table(
            self.obj_id_file,
            'expressions with objects',
            'file-missing',
            read_objects,
        )
        if named:
            path = self._beside(self.obj_id_file)
            name_objects(videos, named, path, self.ann_file)
        objects = self._read_table(
            self.meta_file,
            'categories; set meta_file=None to go without',
            'meta-missing',
        )
        clips = [
            clip
            for video_id, video in videos.items()
            for clip in self._make_clips(video_id, video, objects)
        ]
        for kind in ('img', 'mask'):
            wanted = [c['video_id'] for c in clips if c[f'{kind}_dir']]
            if wanted:
                folder = self.data_prefix[kind]
                check_present(folder, wanted, self.ann_file, 'docs/datasets')
        return clips

    def _make_clips(
        self,
        video_id: str,
        video: VideoEntry,
        objects: Mapping[str, dict],
    ) -> Iterator[dict]:
        """Yield the clips of a video, one per expression."""
        known = self._known_objects(video_id, objects)
        for exp_id, expression in video['expressions'].items():
            obj_id = expression.get('obj_id')
            obj_id = None if obj_id is None else str(obj_id)
            has_masks = obj_id is not None and 'mask' in self.data_prefix
            if has_masks and not is_object_id(obj_id):
                self.report(
                    'object-id-wrong',
                    f'video {video_id}, expression {exp_id}: object id '
                    f'{show(obj_id)} is no number from 1 to 255, so no mask '
                    'can hold it; correct it.',
                )
                continue
            label = 0
            if obj_id is not None and known is not None:
                label = self._label(video_id, exp_id, obj_id, known)
            yield {
                **self.frame_facts(video_id, video),
                'exp_id': exp_id,
                'text': expression['exp'],
                'attributes': expression['attributes'],
                'obj_id': obj_id,
                'label': label,
                'mask_dir': f'{self.data_prefix["mask"]}/{video_id}'
                if has_masks
                else None,
                'mask_suffix': '.png',
            }

    def _known_objects(
        self, video_id: str, objects: Mapping[str, dict]
    ) -> dict | None:
        """Return the objects of a video by id, if a file names them."""
        if not objects:
            return None
        known = objects.get(video_id, {}).get('objects')
        if isinstance(known, dict):
            return known
        code = 'table-wrong'
        message = f'video {video_id} has no table "objects".'
        if video_id not in objects:
            code = 'meta-video-missing'
            message = (
                f'video {video_id} of {self.ann_file} is not there; the two '
                'files belong to different splits.'
            )
        self.report(code, message, self._beside(self.meta_file))
        return None

    def _label(
        self, video_id: str, exp_id: str, obj_id: str, known: Mapping
    ) -> int:
        """Return the class of an object of ``meta.json``."""
        path = self._beside(self.meta_file)
        where = f'expression {exp_id} of video {video_id} in {self.ann_file}'
        if obj_id not in known:
            self.report(
                'object-not-in-meta',
                f'{where} names object {obj_id}; the file has only '
                f'{sort_names(known)}.',
                path,
            )
            return 0
        if not self.with_category:
            return 0
        entry = known[obj_id]
        category = entry.get('category') if isinstance(entry, dict) else None
        classes = self.metainfo['classes']
        if category not in classes:
            raise DataError(
                f'{where}: category {show(category)} is none of the '
                f'{len(classes)} classes',
                file=path,
                remedy='pass them as metainfo=dict(classes=...).',
                code='category-unknown',
            )
        return classes.index(category)
