# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Ref-SAV: long expressions about the videos of SA-V."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from referformer.datasets.base_refer_dataset import BaseReferDataset
from referformer.datasets.mevis import MeViSDataset
from referformer.errors import DataError, report_error
from referformer.formats.attributes import FIELDS
from referformer.formats.frames import check_present
from referformer.formats.sav import (
    FRAME_STRIDE,
    SAVVideo,
    count_annotated,
    read_ref_sav,
)
from referformer.registry import DATASETS

_PAGE = 'docs/datasets/ref-sav.md'


@DATASETS.register_module()
class RefSAVDataset(BaseReferDataset):
    """The training set of Ref-SAV.

    ::

        data_root/
        ├── Ref-SAV.json
        └── sam_v_full/sav_train/sav_000/       SA-V, which Meta distributes
            ├── sav_000002.mp4
            └── sav_000002_manual.json          masks of every fourth frame

    The frames of the set are every fourth one of a video (``frame_stride``);
    ``LoadSAVAnnotations`` reads their masks. An object has one expression.
    From Yuan et al., "Sa2VA", 2025, github.com/bytedance/Sa2VA.

    Args:
        ann_file: ``Ref-SAV.json``.
        img_dir: Folder of SA-V, relative to ``data_root``.
        **kwargs: Arguments of :class:`BaseReferDataset`.
    """

    def __init__(
        self, ann_file: str, *, img_dir: str = 'sam_v_full', **kwargs: Any
    ) -> None:
        super().__init__(ann_file, data_prefix={'img': img_dir}, **kwargs)

    def load_expressions(self) -> list[dict]:
        """Return one dict per (video, object)."""
        videos = read_ref_sav(self.ann_file)
        folder = self.data_prefix['img']
        files = {video.video for video in videos.values()}
        check_present(folder, files, self.ann_file, _PAGE)
        clips: list[dict] = []
        for video_id, video in videos.items():
            try:
                clips += self._make_clips(video_id, video)
            except DataError as error:
                report_error(error)
        return clips

    def _make_clips(self, video_id: str, video: SAVVideo) -> Iterator[dict]:
        """Yield the clips of a video, one per object."""
        folder = Path(self.data_prefix['img'])
        masklets = str(folder / video.masklets)
        length = count_annotated(masklets)
        facts = {
            'video_id': video_id,
            'video_length': length,
            'frame_names': [f'{FRAME_STRIDE * t:05d}' for t in range(length)],
            'video_path': str(folder / video.video),
            'frame_stride': FRAME_STRIDE,
        }
        for obj_id, text in video.texts.items():
            yield {
                **facts,
                'exp_id': obj_id,
                'text': text,
                'obj_id': obj_id,
                'label': 0,
                'masks_file': masklets,
            }


@DATASETS.register_module()
class RefSAVEvalDataset(MeViSDataset):
    """The evaluation set of Ref-SAV, in the layout of MeViS.

    ::

        data_root/ref_sav_eval/
        ├── videos/<video>/<frame>.jpg
        ├── meta_expressions_valid.json
        └── mask_dict.json

    The attribute ``type`` of an expression is ``'long'`` or ``'short'``
    (``type_id`` 0 and 1).

    Args:
        ann_file: Expressions file.
        img_dir: Folder of the videos, relative to ``data_root``.
        mask_file: Table of masks, likewise.
        **kwargs: Arguments of :class:`MeViSDataset`.
    """

    ATTRIBUTE = FIELDS['ref-sav']
    PAGE = _PAGE

    def __init__(
        self,
        ann_file: str,
        *,
        img_dir: str = 'ref_sav_eval/videos',
        mask_file: str | None = 'ref_sav_eval/mask_dict.json',
        **kwargs: Any,
    ) -> None:
        super().__init__(
            ann_file, img_dir=img_dir, mask_file=mask_file, **kwargs
        )
