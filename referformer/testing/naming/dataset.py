# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Drawn videos with the attributes of every object."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
from mmengine.dataset import BaseDataset

from referformer.formats.label_maps import read_label_map
from referformer.formats.text_files import read_json
from referformer.registry import DATASETS
from referformer.testing.motion_scenes.kinds import KINDS
from referformer.testing.motion_scenes.looks import COLOURS, PATTERNS, SIZES
from referformer.testing.motion_scenes.paths import MOTIONS
from referformer.utils.seeding import seed_sample

#: Most objects of a video.
_MOST_OBJECTS = 4


@DATASETS.register_module()
class ObjectNamingDataset(BaseDataset):
    """Videos of ``tools/dataset_converters/make_motion_scenes.py``.

    An item has ``inputs`` (frames, uint8, BGR, shape (T, 3, H, W)), ``ids``
    (number of the object of each pixel, uint8, shape (T, H, W)) and
    ``values`` (of each attribute of each object, int64, shape (5, A); row 0,
    the background, is 0, and values count from 1).

    Args:
        ann_file: ``train/meta.json``, relative to ``data_root``.
        attributes: Attributes to name, keys of :attr:`VALUES`.
        num_frames: Frames T to take from a video: consecutive ones, from a
            random position. All frames when None.
        **kwargs: Arguments of :class:`mmengine.dataset.BaseDataset`.
    """

    VALUES: ClassVar[dict[str, tuple[str, ...]]] = {
        'kind': tuple(KINDS),
        'colour': tuple(COLOURS),
        'pattern': PATTERNS,
        'size': tuple(SIZES),
        'motion': MOTIONS,
    }

    def __init__(
        self,
        ann_file: str,
        attributes: Sequence[str] = ('kind', 'colour', 'pattern', 'size'),
        num_frames: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.attributes = tuple(attributes)
        self.num_frames = num_frames
        super().__init__(ann_file, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Return the folder and the attributes of each video."""
        videos = read_json(self.ann_file)['videos']
        return [
            {'video_id': name, 'objects': video['objects']}
            for name, video in videos.items()
        ]

    def __getitem__(self, idx: int) -> dict:
        """Return a video."""
        seed_sample(idx)
        item = self.get_data_info(idx)
        folder = Path(self.ann_file).parent
        paths = sorted(
            (folder / 'JPEGImages' / item['video_id']).glob('*.jpg')
        )
        if self.num_frames is not None:
            start = random.randint(0, len(paths) - self.num_frames)
            paths = paths[start : start + self.num_frames]
        masks = folder / 'Annotations' / item['video_id']
        frames = np.stack([cv2.imread(str(path)) for path in paths])
        ids = np.stack(
            [read_label_map(masks / f'{path.stem}.png') for path in paths]
        )
        values = np.zeros((_MOST_OBJECTS + 1, len(self.attributes)), np.int64)
        for number, entry in item['objects'].items():
            for k, name in enumerate(self.attributes):
                value = entry['attributes'][name]
                values[int(number), k] = self.VALUES[name].index(value) + 1
        return {
            'inputs': torch.from_numpy(frames.transpose(0, 3, 1, 2).copy()),
            'ids': torch.from_numpy(ids),
            'values': torch.from_numpy(values),
        }
