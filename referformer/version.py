# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The package version: the one place it is written."""

__version__ = '0.1.0'
