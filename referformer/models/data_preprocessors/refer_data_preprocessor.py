# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Normalising and batching clips."""

from typing import Any

from mmdet.models.data_preprocessors import TrackDataPreprocessor

from referformer.registry import MODELS
from referformer.utils.transfer import send


@MODELS.register_module()
class ReferDataPreprocessor(TrackDataPreprocessor):
    """mmdet's preprocessor of clips, without waiting for the device.

    Frames are padded to a multiple of some number in training only. A clip
    is predicted at its own size: the published weights were evaluated
    so, and padding changes what the model sees at the border. Several clips
    of different sizes in a test batch are still padded to the largest.

    Args:
        pad_size_divisor: In training, height and width of the batch are
            rounded up to a multiple of this.
        bgr_to_rgb: Whether to reverse the order of the channels.
        rgb_to_bgr: Likewise.
        **kwargs: Arguments of
            :class:`mmdet.models.data_preprocessors.TrackDataPreprocessor`.
    """

    def __init__(
        self,
        *,
        pad_size_divisor: int = 1,
        bgr_to_rgb: bool = False,
        rgb_to_bgr: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(pad_size_divisor=pad_size_divisor, **kwargs)
        self.train_pad_size_divisor = pad_size_divisor
        #: Whether the batch at hand is one of training; set by `forward`.
        self.training_batch = False
        self.reverse_channels = bgr_to_rgb or rgb_to_bgr

    def cast_data(self, data: dict) -> dict:
        """Send the frames to the device, without waiting for it.

        Annotations stay on the CPU, where the model stacks them before it
        sends them. The channels are put in order here: the base class would
        do it by a list of indices, which it copies to the device.

        Args:
            data: See :meth:`forward`.

        Returns:
            The same with frames on the device, channels in order.
        """
        clips = [send(clip, self.device) for clip in data['inputs']]
        if self.reverse_channels:
            clips = [clip.flip(1) for clip in clips]
        samples = data['data_samples']
        # What we write is not the caller's. In training it is: a loader gives
        # each sample once, and the copies of 64 clips take 100 ms.
        if samples is not None and not self.training_batch:
            samples = [sample.to('cpu') for sample in samples]
        return {'inputs': clips, 'data_samples': samples}

    def forward(self, data: dict, training: bool = False) -> dict:
        """Normalise, pad and stack clips.

        Args:
            data: ``inputs``, a list of N uint8 tensors of shape
                (T, 3, H, W), and ``data_samples``, a list of N
                ``TrackDataSample`` or ``None``.
            training: Whether the batch is for training.

        Returns:
            ``inputs``, float, shape (N, T, 3, H', W'), and
            ``data_samples``, whose frames have ``batch_input_shape``.
        """
        # The base class reads the attribute at several places.
        self.pad_size_divisor = self.train_pad_size_divisor if training else 1
        self.training_batch = training
        return super().forward(data, training)
