# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Weights: reading safely, writing whole, names of published files."""
