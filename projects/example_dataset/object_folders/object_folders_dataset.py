# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""A dataset to copy: every object has a folder of masks of its own."""

from referformer.datasets import BaseReferDataset
from referformer.formats.expressions import read_expressions
from referformer.registry import DATASETS


@DATASETS.register_module()
class ObjectFoldersDataset(BaseReferDataset):
    """Masks ``<mask>/<video>/<object>/<frame>.png`` of 0 and 255.

    There is no file where a frame does not show the object.
    """

    def load_expressions(self) -> list[dict]:
        """Return one dict per (video, expression)."""
        masks = self.data_prefix['mask']
        return [
            {
                **self.frame_facts(video_id, video),
                'exp_id': exp_id,
                'text': expression['exp'],
                'attributes': expression['attributes'],
                'obj_id': str(expression['obj_id']),
                'label': 0,
                'mask_dir': f'{masks}/{video_id}/{expression["obj_id"]}',
                'mask_suffix': '.png',
                'mask_value': 255,
                'mask_missing': 'absent',
            }
            for video_id, video in read_expressions(self.ann_file).items()
            for exp_id, expression in video['expressions'].items()
        ]
