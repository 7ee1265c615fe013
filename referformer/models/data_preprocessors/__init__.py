# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Normalising and batching clips."""

from referformer.models.data_preprocessors.refer_data_preprocessor import (
    ReferDataPreprocessor,
)

__all__ = ['ReferDataPreprocessor']
