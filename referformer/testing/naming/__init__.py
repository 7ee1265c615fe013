# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""First training of a small backbone, on attributes of drawn objects.

A config takes it by ``custom_imports``; see ``configs/example``.
"""

from referformer.testing.naming.dataset import ObjectNamingDataset
from referformer.testing.naming.grounding import PixelGrounding
from referformer.testing.naming.model import ObjectNaming

__all__ = ['ObjectNaming', 'ObjectNamingDataset', 'PixelGrounding']
