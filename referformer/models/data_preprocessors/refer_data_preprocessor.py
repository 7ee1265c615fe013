# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Normalising and batching clips."""

from typing import Any

from mmdet.models.data_preprocessors import TrackDataPreprocessor

from referformer.registry import MODELS


@MODELS.register_module()
class ReferDataPreprocessor(TrackDataPreprocessor):
    """mmdet's preprocessor of clips, padding to a multiple in training only.

    A clip is predicted at its own size: the published weights were evaluated
    so, and padding changes what the model sees at the border. Several clips
    of different sizes in a test batch are still padded to the largest.

    Args:
        pad_size_divisor: In training, height and width of the batch are
            rounded up to a multiple of this.
        **kwargs: Arguments of
            :class:`mmdet.models.data_preprocessors.TrackDataPreprocessor`.
    """

    def __init__(self, *, pad_size_divisor: int = 1, **kwargs: Any) -> None:
        super().__init__(pad_size_divisor=pad_size_divisor, **kwargs)
        self.train_pad_size_divisor = pad_size_divisor

    def forward(self, data: dict, training: bool = False) -> dict:
        """Normalise, pad and stack clips.

        Args:
            data: ``inputs``, a list of N uint8 tensors of shape
                (T, 3, H, W), and ``data_samples``, a list of N
                ``TrackDataSample`` or ``None``.
            training: Whether the batch is for training.

        Returns:
            ``inputs``, float, shape (N, T, 3, H', W'), and
            ``data_samples``, whose frames know ``batch_input_shape``.
        """
        # The base class reads the attribute at several places.
        self.pad_size_divisor = self.train_pad_size_divisor if training else 1
        return super().forward(data, training)
