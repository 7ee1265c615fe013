# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Decoders of mask features."""

from referformer.models.pixel_decoders.cross_modal_fpn import CrossModalFPN

__all__ = ['CrossModalFPN']
