# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""A2D-Sentences."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from referformer.datasets.base_refer_dataset import BaseReferDataset
from referformer.errors import DataError
from referformer.formats.a2d import PAGE, A2DSample, read_samples
from referformer.formats.frames import check_present
from referformer.media.reader import VideoReader
from referformer.registry import DATASETS

#: Folders of the videos: as extracted, and as the release's README calls it.
VIDEO_FOLDERS = ('Release/clips320H', 'Release/CLIPS320')
MASK_FOLDER = 'text_annotations/a2d_annotation_with_instances'


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
        ann_file: Annotation file.
        data_root: Folder of the set.
        data_prefix: Folders of the videos (``video``) and of the masks
            (``mask``); by default those above, ``Release/CLIPS320`` being
            accepted as well.
        **kwargs: Arguments of :class:`BaseReferDataset`, except
            ``group_by_video``: the items of a video show different frames.
    """

    ONE_FRAME_EACH = True

    def __init__(
        self,
        ann_file: str,
        *,
        data_root: str = '',
        data_prefix: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
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
        clips = list(map(self._make_clip, read_samples(self.ann_file)))
        names = {clip['image_id'] for clip in clips}
        if self.test_mode and len(names) < len(clips):
            self.report(
                'row-repeated',
                f'of {len(clips)} rows only {len(names)} different '
                'combinations of video, frame and instance; make it again, '
                f'see {PAGE}.',
            )
        self._check_place(Path(self.data_prefix['video']))
        for kind, suffix in (('video', '.mp4'), ('mask', '')):
            wanted = {f'{clip["video_id"]}{suffix}' for clip in clips}
            check_present(self.data_prefix[kind], wanted, self.ann_file, PAGE)
        return clips

    def _check_place(self, folder: Path) -> None:
        """Look for the folder of the videos where some archives have it."""
        if folder.is_dir():
            return
        root = Path(self.data_root or '.')
        names = {folder.name.lower(), 'clips320'}
        for other in (*root.glob('*'), *root.glob('*/*')):
            if other.is_dir() and other.name.lower() in names:
                self.report(
                    'folder-misplaced',
                    f'the videos are here, not in {folder}; move them there.',
                    other,
                )
                return

    def get_data_info(self, idx: int) -> dict:
        """Return an item with the names of its frames, ``00001`` onwards.

        Raises:
            DataError: If the video ends before the annotated frame.
        """
        item = super().get_data_info(idx)
        length = len(VideoReader(item['video_path']))
        if item['annotated_frame_id'] >= length:
            raise DataError(
                f'Video {item["video_path"]} has {length} frames, but frame '
                f'{item["annotated_frame_id"] + 1} is annotated',
                file=item['video_path'],
                remedy='extract the videos again.',
                code='video-short',
            )
        item['video_length'] = length
        item['frame_names'] = [f'{i + 1:05d}' for i in range(length)]
        return item

    def _make_clip(self, sample: A2DSample) -> dict:
        """Turn a row of the annotation file into a clip."""
        name = f'f_{sample.frame}_i_{sample.instance}'
        folder = Path(self.data_prefix['mask']) / sample.video
        video = Path(self.data_prefix['video']) / f'{sample.video}.mp4'
        return {
            'video_id': sample.video,
            'exp_id': name,
            'image_id': f'v_{sample.video}_{name}',
            'text': sample.text,
            'obj_id': str(sample.instance),
            'label': 0,
            'video_path': str(video),
            'masks_file': str(folder / f'{sample.frame:05d}.h5'),
            'annotated_frame_id': sample.frame - 1,
        }
