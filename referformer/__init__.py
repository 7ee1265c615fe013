# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""ReferFormer: referring video object segmentation on OpenMMLab."""

from referformer import registry
from referformer.version import __version__

__all__ = ['__version__', 'registry']
