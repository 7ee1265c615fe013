# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""JHMDB-Sentences."""

from pathlib import Path
from typing import Any

from referformer.datasets.a2d_sentences import read_rows
from referformer.datasets.base_refer_dataset import BaseReferDataset
from referformer.formats.actor_action import is_plain_name
from referformer.registry import DATASETS

FRAME_FOLDER = 'Rename_Images'
MASK_FOLDER = 'puppet_mask'
_PAGE = 'docs/datasets/jhmdb-sentences.md'


def below(path: Any, folder: str, depth: int) -> Path | None:
    """Return what a path says from ``folder`` on.

    Samples metadata name files relative to the folder *above* the one of the
    set, under the name this had on the computer of whoever wrote them:
    ``./jhmdb_sentences/Rename_Images/...``, ``data/...``, ``/home/...``.

    Args:
        path: The path, with slashes of either kind.
        folder: Folder of the set.
        depth: Parts of a path behind ``folder``.

    Returns:
        Path relative to the folder of the set; ``None`` if it is no such path.
    """
    parts = str(path).replace('\\', '/').split('/')
    if folder not in parts:
        return None
    tail = parts[len(parts) - 1 - parts[::-1].index(folder) :]
    if len(tail) != depth + 1 or not all(map(is_plain_name, tail)):
        return None
    return Path(*tail)


@DATASETS.register_module()
class JHMDBSentencesDataset(BaseReferDataset):
    """JHMDB-Sentences, on which models of A2D-Sentences are scored.

    ::

        data_root/
        ├── Rename_Images/<action>/<video>/<frame>.png
        ├── puppet_mask/<action>/<video>/puppet_mask.mat
        └── jhmdb_sentences_samples_metadata.json

    An item is a frame to be scored; three of each video were chosen. The
    annotation file is a list of ``[video, path of the frame, path of the
    masks, number of frames, expression]``. Frames are numbered from 1.

    Args:
        ann_file: Samples metadata, relative to ``data_root``.
        data_root: Folder of the set.
        **kwargs: Arguments of :class:`BaseReferDataset`, except
            ``group_by_video``: the items of a video show different frames.

    Raises:
        FileNotFoundError: If a file or folder is missing.
        ValueError: If a file does not hold what it should.
    """

    def __init__(
        self, ann_file: str, *, data_root: str = '', **kwargs: Any
    ) -> None:
        if kwargs.get('group_by_video'):
            raise ValueError(
                'group_by_video=True is not possible: items of one video of '
                'JHMDB-Sentences show different frames.'
            )
        super().__init__(ann_file=ann_file, data_root=data_root, **kwargs)

    def load_expressions(self) -> list[dict]:
        """Return one dict per frame to be scored."""
        rows = read_rows(Path(self.ann_file), 5, _PAGE)
        clips = [
            self._parse_row(position, row) for position, row in enumerate(rows)
        ]
        names = {clip['image_id'] for clip in clips}
        if len(names) < len(clips):
            raise ValueError(
                f'{self.ann_file} has {len(clips)} rows, but only '
                f'{len(names)} different frames; make it again, see {_PAGE}.'
            )
        folders = {clip['img_dir'] for clip in clips}
        missing = sorted(
            folder for folder in folders if not Path(folder).is_dir()
        )
        if missing:
            raise FileNotFoundError(
                f'{len(missing)} of {len(folders)} videos of {self.ann_file} '
                f'have no folder of frames, first {missing[0]}; extract the '
                'archive completely.'
            )
        return clips

    def _parse_row(self, position: int, row: list) -> dict:
        """Turn a row of the samples metadata into a clip."""
        video_id, frame_path, mask_path, length, text = row
        image = below(frame_path, FRAME_FOLDER, depth=3)
        masks = below(mask_path, MASK_FOLDER, depth=3)
        number = image.stem if image is not None else ''
        if (
            not is_plain_name(video_id)
            or not number.isdecimal()
            or masks is None
            or not isinstance(length, int)
            or not 1 <= int(number) <= length
            or not isinstance(text, str)
            or not text.strip()
        ):
            raise ValueError(
                f'{self.ann_file}: row {position} is {row}; [video, '
                '.../Rename_Images/<action>/<video>/<frame from 1 on>.png, '
                '.../puppet_mask/<action>/<video>/puppet_mask.mat, number of '
                f'frames, expression] is expected, see {_PAGE}.'
            )
        root = Path(self.data_root or '')
        frame = int(number)
        return {
            'video_id': video_id,
            'exp_id': f'f_{frame}',
            'image_id': f'v_{video_id}_f_{frame}',
            'text': text,
            'obj_id': '1',
            'label': 0,
            'num_frames': length,
            'frame_names': [f'{i + 1:05d}' for i in range(length)],
            'img_dir': str(root / image.parent),
            'img_suffix': image.suffix,
            'mask_path': str(root / masks),
            'mask_frame': frame - 1,
            'annotated': frame - 1,
        }
