# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Datasets of the example project."""

from .object_folders_dataset import ObjectFoldersDataset

__all__ = ['ObjectFoldersDataset']
