# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Loops of mmengine's ``Runner``."""

from referformer.engine.loops.resumable_test_loop import ResumableTestLoop

__all__ = ['ResumableTestLoop']
