# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""MeViS, and everything else in its layout: masks in ``mask_dict.json``."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from mmengine.logging import MMLogger

from referformer.datasets.base_refer_dataset import BaseReferDataset
from referformer.errors import DataError, report_error
from referformer.formats.attributes import FIELDS, AttributeField
from referformer.formats.expressions import VideoEntry, read_expressions
from referformer.formats.frames import check_present
from referformer.formats.mask_dict import MaskTable, open_mask_table
from referformer.registry import DATASETS


@DATASETS.register_module()
class MeViSDataset(BaseReferDataset):
    """MeViS, both editions.

    ::

        data_root/
        ├── train/
        │   ├── JPEGImages/<video>/<frame>.jpg
        │   ├── meta_expressions.json     meta_expressions_v2.json
        │   └── mask_dict.json
        ├── valid_u/...     with masks as well: scored locally
        └── valid/...       without: scored by the server

    An expression means several objects, one, or (second edition) none. Its
    ``obj_id`` joins their numbers, as ``'0,2'``; ``anno_ids`` names their
    masks in ``mask_dict.json``, which stays on disk. What
    ``LoadMeViSAnnotations`` reads is the union.

    In training, expressions without a target are left out, for nothing in
    their videos could be learned from, and so are very short videos.

    Args:
        ann_file: Expressions file.
        img_dir: Folder of the videos, relative to ``data_root``.
        mask_file: Table of masks, likewise; ``None`` without ground truth.
        min_frames: Videos with fewer frames are left out in training.
        **kwargs: Arguments of :class:`BaseReferDataset`.
    """

    #: Field of the expressions that holds their attribute, if there is one.
    ATTRIBUTE: ClassVar[AttributeField | None] = None
    #: Page of the documentation that shows the folders.
    PAGE: ClassVar[str] = 'docs/datasets/mevis.md'

    def __init__(
        self,
        ann_file: str,
        *,
        img_dir: str = 'train/JPEGImages',
        mask_file: str | None = 'train/mask_dict.json',
        min_frames: int = 2,
        **kwargs: Any,
    ) -> None:
        self.mask_file = mask_file
        self.min_frames = min_frames
        super().__init__(ann_file, data_prefix={'img': img_dir}, **kwargs)

    def load_expressions(self) -> list[dict]:
        """Return one dict per (video, expression)."""
        # Masks belong to positions in the list of frames.
        videos = read_expressions(
            self.ann_file, positional=True, attribute=self.ATTRIBUTE
        )
        table = None
        if self.mask_file is not None:
            # Opened here, so that worker processes share it.
            path = Path(self.data_root or '') / self.mask_file
            try:
                table = open_mask_table(str(path))
            except DataError as error:
                report_error(error)
        clips = [
            clip
            for video_id, video in videos.items()
            for clip in self._make_clips(video_id, video, table)
        ]
        check_present(
            self.data_prefix['img'],
            {clip['video_id'] for clip in clips},
            self.ann_file,
            self.PAGE,
        )
        return clips if self.test_mode else self._usable(clips)

    def _usable(self, clips: list[dict]) -> list[dict]:
        """Return what can be trained on."""
        usable = [
            clip
            for clip in clips
            if clip['video_length'] >= self.min_frames
            and clip['anno_ids'] != ()
        ]
        if len(usable) < len(clips):
            MMLogger.get_current_instance().info(
                '%s: %d of %d expressions are not trained on, because they '
                'have no target or their video fewer than %d frames.',
                self.ann_file,
                len(clips) - len(usable),
                len(clips),
                self.min_frames,
            )
        return usable

    def _make_clips(
        self, video_id: str, video: VideoEntry, table: MaskTable | None
    ) -> Iterator[dict]:
        """Yield the clips of a video, one per expression."""
        for exp_id, expression in video['expressions'].items():
            where = f'video {video_id}, expression {exp_id}'
            target = self._parse_target(where, expression, table)
            if target is None:
                continue
            yield {
                **self.frame_facts(video_id, video),
                'exp_id': exp_id,
                'text': expression['exp'],
                'attributes': expression['attributes'],
                'label': 0,
                'masks_file': None if table is None else str(table.path),
                **target,
            }

    def _parse_target(
        self, where: str, expression: Mapping, table: MaskTable | None
    ) -> dict | None:
        """Return the objects an expression means; ``None`` if reported."""
        if table is None:
            return {'obj_id': None, 'anno_ids': None}
        objects = expression.get('obj_id')
        annotations = expression.get('anno_id')
        if (
            not isinstance(objects, list)
            or not isinstance(annotations, list)
            or len(objects) != len(annotations)
        ):
            self.report(
                'target-wrong',
                f'{where} needs lists "obj_id" and "anno_id" of one length; '
                'without ground truth set mask_file=None.',
            )
            return None
        anno_ids = tuple(map(str, annotations))
        lost = [anno_id for anno_id in anno_ids if anno_id not in table]
        if lost:
            self.report(
                'annotation-unknown',
                f'{where} names annotation {lost[0]}, which {table.path} '
                'does not have; the two files belong to different splits.',
            )
            return None
        return {'obj_id': ','.join(map(str, objects)), 'anno_ids': anno_ids}


@DATASETS.register_module()
class ReVOSDataset(MeViSDataset):
    """ReVOS: expressions that refer, and expressions that ask to reason.

    ::

        data_root/
        ├── JPEGImages/<source>/.../<video>/<frame>.jpg
        ├── meta_expressions_train_.json
        ├── meta_expressions_valid_.json
        └── mask_dict.json                    of both splits

    From Yan et al., "VISA", ECCV 2024, github.com/cilinyan/ReVOS-api. The
    attribute ``type`` of an expression is ``'referring'``, ``'reasoning'`` or
    ``'no-target'`` (``type_id`` 0, 1, 2).

    Args:
        ann_file: Expressions file.
        img_dir: Folder of the videos, relative to ``data_root``.
        mask_file: Table of masks, likewise.
        **kwargs: Arguments of :class:`MeViSDataset`.
    """

    ATTRIBUTE = FIELDS['revos']
    PAGE = 'docs/datasets/revos.md'

    def __init__(
        self,
        ann_file: str,
        *,
        img_dir: str = 'JPEGImages',
        mask_file: str | None = 'mask_dict.json',
        **kwargs: Any,
    ) -> None:
        super().__init__(
            ann_file, img_dir=img_dir, mask_file=mask_file, **kwargs
        )
