# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""A2D-Sentences."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from referformer.datasets.base_refer_dataset import BaseReferDataset
from referformer.formats.actor_action import is_plain_name
from referformer.media.reader import VideoReader
from referformer.registry import DATASETS

#: Folders of the videos: as extracted, and as the release's README calls it.
VIDEO_FOLDERS = ('Release/clips320H', 'Release/CLIPS320')
MASK_FOLDER = 'text_annotations/a2d_annotation_with_instances'
_PAGE = 'docs/datasets/a2d-sentences.md'


def read_rows(path: Path, width: int, page: str) -> list[list]:
    """Read a JSON file that is a list of rows.

    Args:
        path: The file.
        width: Columns of a row.
        page: Page of the documentation that tells where it comes from.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If it is something else.
    """
    try:
        rows = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        raise FileNotFoundError(
            f'{path} does not exist; {page} tells how to make it.'
        ) from None
    except ValueError as error:
        raise ValueError(
            f'{path} is not valid json ({error}); make it again, see {page}.'
        ) from error
    if not isinstance(rows, list) or not all(
        isinstance(row, list) and len(row) == width for row in rows
    ):
        raise ValueError(
            f'{path} is no list of rows with {width} columns; make it again, '
            f'see {page}.'
        )
    return rows


@DATASETS.register_module()
class A2DSentencesDataset(BaseReferDataset):
    """A2D-Sentences: three to five annotated frames a video.

    ::

        data_root/
        ├── Release/clips320H/<video>.mp4
        ├── text_annotations/
        │   └── a2d_annotation_with_instances/<video>/<frame>.h5
        └── a2d_sentences_single_frame_{train,test}_annotations.json

    An item is one annotated frame with one expression. The annotation file
    is a list of ``[expression, video, frame, instance]``, where the first
    frame of a video is number 1 (not 0, as everywhere else here).

    An item knows the number of its frames only when it is asked for: then
    the packets of its video are counted.

    Args:
        ann_file: Annotation file, relative to ``data_root``.
        data_root: Folder of the set.
        data_prefix: Folders of the videos (``video``) and of the masks
            (``mask``); by default those above, ``Release/CLIPS320`` being
            accepted as well.
        **kwargs: Arguments of :class:`BaseReferDataset`, except
            ``group_by_video``: the items of a video show different frames.

    Raises:
        FileNotFoundError: If a file or folder is missing.
        ValueError: If a file does not hold what it should.
    """

    def __init__(
        self,
        ann_file: str,
        *,
        data_root: str = '',
        data_prefix: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        if kwargs.get('group_by_video'):
            raise ValueError(
                'group_by_video=True is not possible: items of one video of '
                'A2D-Sentences show different frames.'
            )
        prefix = dict(data_prefix or {})
        if 'video' not in prefix:
            present = (
                folder
                for folder in VIDEO_FOLDERS
                if (Path(data_root) / folder).is_dir()
            )
            prefix['video'] = next(present, VIDEO_FOLDERS[0])
        prefix.setdefault('mask', MASK_FOLDER)
        super().__init__(
            ann_file=ann_file,
            data_root=data_root,
            data_prefix=prefix,
            **kwargs,
        )

    def load_expressions(self) -> list[dict]:
        """Return one dict per (annotated frame, expression)."""
        rows = read_rows(Path(self.ann_file), 4, _PAGE)
        clips = [
            self._parse_row(position, row) for position, row in enumerate(rows)
        ]
        if self.test_mode:
            names = {clip['image_id'] for clip in clips}
            if len(names) < len(clips):
                raise ValueError(
                    f'{self.ann_file} has {len(clips)} rows, but only '
                    f'{len(names)} different combinations of video, frame '
                    'and instance; make it again, see '
                    f'{_PAGE}.'
                )
        self._check_files(clips)
        return clips

    def get_data_info(self, idx: int) -> dict:
        """Return an item with the names of its frames, ``00001`` onwards.

        Raises:
            ValueError: If the video ends before the annotated frame.
        """
        item = super().get_data_info(idx)
        length = len(VideoReader(item['video_path']))
        if item['annotated'] >= length:
            raise ValueError(
                f'Video {item["video_path"]} has {length} frames, but frame '
                f'{item["annotated"] + 1} is annotated; extract the videos '
                'again.'
            )
        item['num_frames'] = length
        item['frame_names'] = [f'{i + 1:05d}' for i in range(length)]
        return item

    def _parse_row(self, position: int, row: list) -> dict:
        """Turn a row of the annotation file into a clip."""
        text, video_id, frame, instance = row
        if (
            not isinstance(text, str)
            or not text.strip()
            or not is_plain_name(video_id)
            or not isinstance(frame, int)
            or not isinstance(instance, int)
            or frame < 1
        ):
            raise ValueError(
                f'{self.ann_file}: row {position} is {row}; [expression, '
                'video, frame from 1 on, instance] is expected, see '
                f'{_PAGE}.'
            )
        name = f'f_{frame}_i_{instance}'
        folder = Path(self.data_prefix['mask']) / video_id
        video = Path(self.data_prefix['video']) / f'{video_id}.mp4'
        return {
            'video_id': video_id,
            'exp_id': name,
            'image_id': f'v_{video_id}_{name}',
            'text': text,
            'obj_id': str(instance),
            'label': 0,
            'video_path': str(video),
            'mask_path': str(folder / f'{frame:05d}.h5'),
            'mask_frame': frame - 1,
            'annotated': frame - 1,
        }

    def _check_files(self, clips: list[dict]) -> None:
        """Check that every video and its folder of masks are there."""
        for kind, suffix in (('video', '.mp4'), ('mask', '')):
            folder = Path(self.data_prefix[kind])
            if not folder.is_dir():
                raise FileNotFoundError(
                    f'Folder {folder} does not exist; {_PAGE} shows the '
                    'expected folders.'
                )
            present = {path.name for path in folder.iterdir()}
            wanted = {f'{clip["video_id"]}{suffix}' for clip in clips}
            missing = sorted(wanted - present)
            if missing:
                raise FileNotFoundError(
                    f'{len(missing)} of {len(wanted)} videos of '
                    f'{self.ann_file} are not in {folder}, first '
                    f'{missing[0]!r}; extract the archive completely.'
                )
