# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Components of the example project."""

from .dummy_fusion import DummyFusion

__all__ = ['DummyFusion']
