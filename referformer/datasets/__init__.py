# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Datasets of referring expressions, and their transforms."""

from referformer.datasets import transforms
from referformer.datasets.base_refer_dataset import BaseReferDataset
from referformer.datasets.mevis import MeViSDataset
from referformer.datasets.ref_davis import RefDAVISDataset
from referformer.datasets.ref_youtube_vos import RefYouTubeVOSDataset
from referformer.datasets.refcoco import RefCOCODataset

__all__ = [
    'BaseReferDataset',
    'MeViSDataset',
    'RefCOCODataset',
    'RefDAVISDataset',
    'RefYouTubeVOSDataset',
    'transforms',
]
