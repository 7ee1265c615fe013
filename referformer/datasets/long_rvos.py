# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Long-RVOS: videos of a minute, a folder of masks per object."""

from collections.abc import Mapping
from typing import Any

from referformer.datasets.base_refer_dataset import BaseReferDataset
from referformer.errors import ConfigError
from referformer.formats.attributes import FIELDS
from referformer.formats.expressions import read_expressions
from referformer.formats.frames import check_present, is_plain_name
from referformer.formats.text_files import show
from referformer.registry import DATASETS

_PAGE = 'docs/datasets/long-rvos.md'


@DATASETS.register_module()
class LongRVOSDataset(BaseReferDataset):
    """Long-RVOS.

    ::

        data_root/
        ├── train/
        │   ├── JPEGImages/<video>/<frame>.jpg
        │   ├── Annotations/<video>/<object>/<frame>.png   255 is the object
        │   └── meta_expressions.json
        ├── valid/...
        └── test/...

    There is no file where a frame does not show the object. The attribute
    ``type`` of an expression is ``'static'``, ``'dynamic'`` or ``'hybrid'``
    (``static+dynamic`` in the file). From Liang et al., "Long-RVOS", CVPR
    2026, github.com/iSEE-Laboratory/Long_RVOS.

    Args:
        ann_file: Expressions file.
        data_prefix: Folders of the frames (``img``) and of the masks
            (``mask``; leave it out when there is no ground truth).
        **kwargs: Arguments of :class:`BaseReferDataset`.

    Raises:
        ConfigError: If ``data_prefix`` names no folder of frames.
    """

    def __init__(
        self, ann_file: str, *, data_prefix: Mapping[str, str], **kwargs: Any
    ) -> None:
        if 'img' not in data_prefix:
            raise ConfigError(
                f'data_prefix is {dict(data_prefix)}; it needs "img", the '
                'folder of the frames.'
            )
        super().__init__(ann_file, data_prefix=dict(data_prefix), **kwargs)

    def load_expressions(self) -> list[dict]:
        """Return one dict per (video, expression)."""
        masks = self.data_prefix.get('mask')
        clips = []
        videos = read_expressions(self.ann_file, attribute=FIELDS['long-rvos'])
        for video_id, video in videos.items():
            for exp_id, expression in video['expressions'].items():
                obj_id = str(expression.get('obj_id'))
                if masks is not None and not self._is_object(
                    f'video {video_id}, expression {exp_id}', expression
                ):
                    continue
                clips.append(
                    {
                        **self.frame_facts(video_id, video),
                        'exp_id': exp_id,
                        'text': expression['exp'],
                        'attributes': expression['attributes'],
                        'obj_id': None if masks is None else obj_id,
                        'label': 0,
                        'mask_dir': None
                        if masks is None
                        else f'{masks}/{video_id}/{obj_id}',
                        'mask_suffix': '.png',
                        'mask_value': 255,
                        'mask_missing': 'absent',
                    }
                )
        wanted = {clip['video_id'] for clip in clips}
        check_present(self.data_prefix['img'], wanted, self.ann_file, _PAGE)
        if masks is not None:
            # A missing file is an empty mask, so a missing folder would go
            # unnoticed.
            check_present(
                masks,
                {f'{clip["video_id"]}/{clip["obj_id"]}' for clip in clips},
                self.ann_file,
                _PAGE,
                what='objects',
                code='object-missing',
            )
        return clips

    def _is_object(self, where: str, expression: Mapping[str, Any]) -> bool:
        """Return whether an expression names the folder of an object."""
        obj_id = expression.get('obj_id')
        if type(obj_id) in (int, str) and is_plain_name(str(obj_id)):
            return True
        self.report(
            'object-folder-wrong',
            f'{where}: obj_id {show(obj_id)} is no name of a folder of masks; '
            'correct it, or leave data_prefix["mask"] out if there is no '
            'ground truth.',
        )
        return False
