# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""ReferFormer: referring video object segmentation on OpenMMLab."""

# The check comes before everything that imports mmengine, so that a missing
# or foreign version is reported in words instead of a traceback from inside.
from referformer.utils.versions import check_versions

check_versions()

from referformer import registry  # noqa: E402
from referformer.version import __version__  # noqa: E402

__all__ = ['__version__', 'registry']
