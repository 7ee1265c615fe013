# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Ref-YouTube-VOS and everything else in its layout."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from mmengine.config import Config

from referformer.datasets.base_refer_dataset import BaseReferDataset
from referformer.formats.actor_action import is_plain_name
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


def read_videos(path: Path, what: str) -> dict[str, dict]:
    """Return the ``videos`` of a json file of the Ref-YouTube-VOS layout.

    Args:
        path: The file.
        what: What the file is, for the error messages.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If it is no json or has no table ``videos`` of tables.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f'{path} ({what}) does not exist; docs/datasets shows the '
            'expected folders.'
        )
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f'{path} ({what}) is not valid json ({error}); download or '
            'extract it again.'
        ) from error
    videos = content.get('videos') if isinstance(content, dict) else None
    if not isinstance(videos, dict):
        raise ValueError(
            f'{path} ({what}) has no table "videos"; it is not a file of the '
            'Ref-YouTube-VOS layout.'
        )
    for video_id, video in videos.items():
        if not isinstance(video, dict):
            raise ValueError(
                f'{path} ({what}): video {video_id} is {video!r} and not a '
                'table; download or extract the file again.'
            )
    return videos


def parse_video(where: str, video: Mapping) -> tuple[list[str], dict]:
    """Return the frames and expressions of a video, after checking them.

    Names of frames and expressions become names of files, so those that
    would lead elsewhere are refused.

    Args:
        where: File and video, for the error messages.
        video: Entry of an expressions file.

    Returns:
        Names of the frames as listed, and expressions by name, each a table
        with the text ``exp``.

    Raises:
        ValueError: If it is no such entry.
    """
    frames, expressions = video.get('frames'), video.get('expressions')
    if (
        not frames
        or not isinstance(frames, list)
        or not isinstance(expressions, dict)
    ):
        raise ValueError(
            f'{where} needs a list "frames" and a table "expressions".'
        )
    for name in [*frames, *expressions]:
        if not is_plain_name(name):
            raise ValueError(
                f'{where} names a frame or expression {name!r}, which is no '
                'name of a file; correct it or download the file again.'
            )
    if len(set(frames)) < len(frames):
        raise ValueError(f'{where} lists a frame twice; remove one of them.')
    for exp_id, expression in expressions.items():
        text = expression.get('exp') if isinstance(expression, dict) else None
        if not isinstance(text, str) or not text.strip():
            raise ValueError(
                f'{where}, expression {exp_id} is empty; remove it or '
                'write what it should say.'
            )
    return frames, expressions


def check_folders(
    folder: Path, video_ids: Iterable[str], ann_file: str
) -> None:
    """Check that every video has a folder.

    One listing; single frames are checked when they are read.

    Args:
        folder: Where the folders of the videos should be.
        video_ids: The videos.
        ann_file: Who names the videos, for the error messages.

    Raises:
        FileNotFoundError: If a folder is missing.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f'Folder {folder} does not exist; docs/datasets shows the '
            'expected folders.'
        )
    wanted = set(video_ids)
    missing = sorted(wanted - {path.name for path in folder.iterdir()})
    if missing:
        raise FileNotFoundError(
            f'{len(missing)} of {len(wanted)} videos of {ann_file} have no '
            f'folder in {folder}, first {missing[0]!r}; extract the archive '
            'completely.'
        )


def _normalize(text: object) -> str:
    """Return a text in lower case with single spaces."""
    return ' '.join(str(text).lower().split())


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
        ann_file: Expressions file, relative to ``data_root``.
        data_root: Folder of the set.
        data_prefix: Folders of the frames (``img``) and of the masks
            (``mask``; leave it out, or ``None``, when there is no ground
            truth; it is not looked at either when the expressions name no
            ``obj_id``, as in the official validation file).
        obj_id_file: Optional expressions file that names the ``obj_id`` which
            ``ann_file`` leaves out; expressions of both must read the same.
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
        metainfo: See :class:`mmengine.dataset.BaseDataset`.
        **kwargs: Arguments of :class:`BaseReferDataset`.

    Raises:
        FileNotFoundError: If a file or folder is missing.
        ValueError: If a file does not hold what it should.
    """

    #: The classes of ``with_category``.
    CATEGORIES: ClassVar[tuple[str, ...]] = CATEGORIES

    def __init__(
        self,
        ann_file: str,
        *,
        data_root: str = '',
        data_prefix: Mapping[str, str] | None = None,
        obj_id_file: str | None = None,
        meta_file: str | None = None,
        with_category: bool = False,
        exclude_ann_file: str | None = None,
        expected_videos: int | None = None,
        metainfo: Mapping | Config | None = None,
        **kwargs: Any,
    ) -> None:
        self.with_category = with_category
        self.obj_id_file = obj_id_file
        self.meta_file = meta_file
        self.exclude_ann_file = exclude_ann_file
        self.expected_videos = expected_videos
        if with_category:
            if meta_file is None:
                raise ValueError(
                    'with_category=True needs meta_file (train/meta.json).'
                )
            metainfo = {'classes': self.CATEGORIES, **(metainfo or {})}
        if data_prefix is None:
            data_prefix = {
                'img': 'train/JPEGImages',
                'mask': 'train/Annotations',
            }
        data_prefix = {k: v for k, v in data_prefix.items() if v is not None}
        if 'img' not in data_prefix:
            raise ValueError(
                f'data_prefix is {data_prefix}; it needs "img", the '
                'folder of the frames.'
            )
        super().__init__(
            ann_file=ann_file,
            data_root=data_root,
            data_prefix=data_prefix,
            metainfo=metainfo,
            **kwargs,
        )

    def _beside(self, path: str) -> Path:
        """Return ``path`` relative to the root of the data."""
        return Path(self.data_root or '') / path

    def load_expressions(self) -> list[dict]:
        """Return one dict per (video, expression)."""
        ann_file = Path(self.ann_file)
        videos = read_videos(ann_file, 'expressions')
        if self.exclude_ann_file is not None:
            excluded = read_videos(
                self._beside(self.exclude_ann_file), 'expressions to exclude'
            )
            videos = {k: v for k, v in videos.items() if k not in excluded}
        if self.expected_videos not in (None, len(videos)):
            raise ValueError(
                f'{ann_file} leaves {len(videos)} videos, expected '
                f'{self.expected_videos}; {self._subset_hint()}'
            )
        if self.obj_id_file is not None:
            self._name_objects(videos)
        objects = None
        if self.meta_file is not None:
            objects = read_videos(
                self._beside(self.meta_file),
                'categories; set meta_file=None to go without',
            )
        clips = [
            clip
            for video_id, video in videos.items()
            for clip in self._parse_video(video_id, video, objects)
        ]
        for kind in ('img', 'mask'):
            wanted = [c['video_id'] for c in clips if c[f'{kind}_dir']]
            if wanted:
                check_folders(
                    Path(self.data_prefix[kind]), wanted, self.ann_file
                )
        return clips

    def _subset_hint(self) -> str:
        """Say how to get the expected videos."""
        return (
            'the official validation set is "valid" without the videos of '
            '"test" (exclude_ann_file).'
        )

    def _name_objects(self, videos: Mapping[str, dict]) -> None:
        """Add the ``obj_id`` of every expression from the second file."""
        path = self._beside(self.obj_id_file)
        named = read_videos(path, 'expressions with objects')
        for video_id, video in videos.items():
            where = f'{self.ann_file}: video {video_id}'
            known = named.get(video_id, {}).get('expressions')
            for exp_id, expression in parse_video(where, video)[1].items():
                other = known.get(exp_id) if isinstance(known, dict) else None
                if not isinstance(other, dict):
                    other = {}
                if _normalize(other.get('exp')) != _normalize(
                    expression.get('exp')
                ):
                    raise ValueError(
                        f'{path}: video {video_id}, expression {exp_id} reads '
                        f'{other.get("exp")!r}, but {expression.get("exp")!r} '
                        f'in {self.ann_file}; the two files belong to '
                        'different editions.'
                    )
                expression['obj_id'] = other.get('obj_id')

    def _parse_video(
        self,
        video_id: str,
        video: dict,
        objects: Mapping[str, dict] | None,
    ) -> list[dict]:
        """Turn one video of the json file into clips, one per expression."""
        where = f'{self.ann_file}: video {video_id}'
        frames, expressions = parse_video(where, video)
        frames = sorted(frames)
        known = None
        if objects is not None:
            if video_id not in objects:
                raise ValueError(
                    f'{where} is not in {self._beside(self.meta_file)}; the '
                    'two files belong to different splits.'
                )
            known = objects[video_id].get('objects')
            if not isinstance(known, dict):
                raise ValueError(
                    f'{self._beside(self.meta_file)}: video {video_id} has '
                    'no table "objects"; download or extract the file again.'
                )
        common = {
            'video_id': video_id,
            'num_frames': len(frames),
            'frame_names': frames,
            'img_dir': str(Path(self.data_prefix['img']) / video_id),
            'img_suffix': '.jpg',
            'mask_suffix': '.png',
        }
        clips = []
        for exp_id, expression in expressions.items():
            obj_id = expression.get('obj_id')
            obj_id = None if obj_id is None else str(obj_id)
            label = 0
            if obj_id is not None and known is not None:
                if obj_id not in known:
                    raise ValueError(
                        f'{where}, expression {exp_id} names object '
                        f'{obj_id}, but {self._beside(self.meta_file)} has '
                        f'only {sorted(known)}.'
                    )
                label = self._label(known[obj_id], where)
            mask_dir = None
            if obj_id is not None and 'mask' in self.data_prefix:
                mask_dir = str(Path(self.data_prefix['mask']) / video_id)
            clips.append(
                {
                    **common,
                    'exp_id': exp_id,
                    'text': expression['exp'],
                    'obj_id': obj_id,
                    'label': label,
                    'mask_dir': mask_dir,
                }
            )
        return clips

    def _label(self, entry: Any, where: str) -> int:
        """Return the class of an object of ``meta.json``."""
        if not self.with_category:
            return 0
        category = entry.get('category') if isinstance(entry, dict) else None
        classes = self.metainfo['classes']
        if category not in classes:
            raise ValueError(
                f'{where}: category {category!r} is none of the '
                f'{len(classes)} classes; pass them as metainfo=dict('
                'classes=...).'
            )
        return classes.index(category)
