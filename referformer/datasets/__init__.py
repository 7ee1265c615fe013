# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Datasets of referring expressions, and their transforms."""

from referformer.datasets import transforms
from referformer.datasets.a2d_sentences import A2DSentencesDataset
from referformer.datasets.base_refer_dataset import BaseReferDataset
from referformer.datasets.jhmdb_sentences import JHMDBSentencesDataset
from referformer.datasets.long_rvos import LongRVOSDataset
from referformer.datasets.mevis import MeViSDataset, ReVOSDataset
from referformer.datasets.ref_davis import RefDAVISDataset
from referformer.datasets.ref_sav import RefSAVDataset, RefSAVEvalDataset
from referformer.datasets.ref_youtube_vos import RefYouTubeVOSDataset
from referformer.datasets.refcoco import RefCOCODataset

__all__ = [
    'A2DSentencesDataset',
    'BaseReferDataset',
    'JHMDBSentencesDataset',
    'LongRVOSDataset',
    'MeViSDataset',
    'ReVOSDataset',
    'RefCOCODataset',
    'RefDAVISDataset',
    'RefSAVDataset',
    'RefSAVEvalDataset',
    'RefYouTubeVOSDataset',
    'transforms',
]
