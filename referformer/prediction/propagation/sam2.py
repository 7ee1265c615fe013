# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Propagation with SAM 2, EdgeTAM or the tracker of SAM 3.

The model and its inference session are those of transformers. Its session
keeps every frame and every output of a video. Here it is given one frame at a
time and forgets the outputs that its memory does not reach, so the memory is
bounded and the masks are the same.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from referformer.checkpoints.hugging_face import from_pretrained
from referformer.errors import (
    CheckpointError,
    ConfigError,
    MissingPackageError,
    check_choice,
)
from referformer.prediction.propagation.base import (
    MaskPropagator,
    MaskTracker,
    ScoredMasks,
)
from referformer.registry import TASK_UTILS

Tracker = Literal['Sam2Video', 'EdgeTamVideo', 'Sam3TrackerVideo']
"""Name of a model of transformers, without ``Model``."""

# Mean and standard deviation of RGB in [0, 1], of each kind of weights.
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_NORMALISATION = {
    'Sam2Video': _IMAGENET,
    'EdgeTamVideo': _IMAGENET,
    'Sam3TrackerVideo': ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


class SamFrame(NamedTuple):
    """A frame as the model gets it.

    Attributes:
        size (tuple[int, int]): Height and width of the picture.
        pixels (Tensor): Normalised, shape (3, S, S).
        cache (Any): Keeps the features of the frame, which are computed when
            the first tracker needs them, for the others.
    """

    size: tuple[int, int]
    pixels: Tensor
    cache: Any


class _CurrentFrame(Sequence):
    """Stands for the frames of a video in a session and holds one of them."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.pixels: Tensor | None = None

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        return self.pixels


@TASK_UTILS.register_module()
class SAM2Propagator(MaskPropagator):
    """Track the mask of the key frame with SAM 2 or a model of its kind.

    `SAM 2 <https://arxiv.org/abs/2408.00714>`_, EdgeTAM and the tracker of
    SAM 3 have one interface in transformers. The masks are those of the
    model's own run over the whole video, first forward and then backward from
    the key frame. Objects with one key frame share a session; the features of
    a frame are computed once for all.

    Args:
        pretrained (str, optional): Name on the hub, such as
            ``'facebook/sam2.1-hiera-large'``, or a folder. A name is looked
            for as ``<local_root>/<name>`` first. Take the published weights:
            fine-tuned ones propagate worse.
        tracker (Tracker): ``'Sam2Video'``, ``'EdgeTamVideo'`` (for
            ``'yonigozlan/EdgeTAM-hf'``) or ``'Sam3TrackerVideo'`` (for
            ``'facebook/sam3'``), classes of transformers without ``Model``.
        hf_config (dict, optional): Arguments of the configuration class, for
            a model with random weights, in place of ``pretrained``.
        local_root (str): Folder searched before the hub.
        **rules: See :class:`MaskPropagator`.

    Raises:
        ConfigError: If neither or both of ``pretrained`` and ``hf_config``
            are given, or ``tracker`` is unknown.
    """

    def __init__(
        self,
        pretrained: str | None = None,
        tracker: Tracker = 'Sam2Video',
        hf_config: dict | None = None,
        local_root: str = 'checkpoints',
        **rules: Any,
    ) -> None:
        super().__init__(**rules)
        check_choice('tracker', tracker, get_args(Tracker))
        if (pretrained is None) == (hf_config is None):
            raise ConfigError(
                'SAM2Propagator takes either pretrained (a name or folder) '
                f'or hf_config (random weights), got pretrained={pretrained!r}'
                f' and hf_config={hf_config!r}'
            )
        self.pretrained = pretrained
        self.tracker = tracker
        self.hf_config = hf_config
        self.local_root = local_root
        self.model: Any = None

    def prepare(self, device: torch.device) -> None:
        """Load the weights, once, and bring them to the device.

        Raises:
            MissingPackageError: If transformers has no such model.
            MissingCheckpointError: If the weights cannot be had.
            CheckpointError: If they belong to another model.
        """
        if self.model is None:
            self.model = self._load().eval()
        self.model.to(device)

    def _class(self, suffix: str) -> type:
        """A class of the tracker in transformers."""
        import transformers

        name = self.tracker + suffix
        try:
            return getattr(transformers, name)
        # transformers raises either for what it cannot import
        except (AttributeError, ImportError) as error:
            raise MissingPackageError(
                f'transformers {transformers.__version__} has no {name}',
                value=self.tracker,
                remedy='update it: pip install -U transformers',
            ) from error

    def _load(self) -> torch.nn.Module:
        kind = self._class('Model')
        if self.pretrained is None:
            config = self._class('Config')(**self.hf_config)
            return kind(config)
        try:
            model, report = from_pretrained(
                kind,
                self.pretrained,
                self.local_root,
                output_loading_info=True,
            )
        except CheckpointError:
            raise
        except RuntimeError as error:  # shapes that differ
            raise self._foreign(str(error).splitlines()[0]) from error
        missing = sorted(report['missing_keys'])
        if missing:
            raise self._foreign(
                f'{len(missing)} weights are missing, such as {missing[0]}'
            )
        return model.float()

    def _foreign(self, reason: str) -> CheckpointError:
        return CheckpointError(
            f'{self.pretrained} holds no weights of {self.tracker}Model '
            f'({reason}); set tracker to the model of these weights: one of '
            f'{get_args(Tracker)}.',
            value=self.pretrained,
        )

    def new_session(self, size: tuple[int, int]) -> Any:
        """An inference session without a video."""
        device = self.model.device
        return self._class('InferenceSession')(
            video_height=size[0],
            video_width=size[1],
            inference_device=device,
            inference_state_device=device,
            video_storage_device=device,
            # its default, the name, is no type in some versions
            dtype=torch.float32,
        )

    def encode(self, image: np.ndarray, before: Any = None) -> SamFrame:
        """Resize and normalise a frame as the published processor does."""
        size = image.shape[:2]
        device = self.model.device
        rgb = torch.from_numpy(np.ascontiguousarray(image[..., ::-1]))
        pixels = rgb.to(device).permute(2, 0, 1)[None].float()
        side = self.model.config.image_size
        pixels = _resize(pixels, (side, side), antialias=True)
        # the processor works on whole numbers
        pixels = pixels.round().clamp(0, 255)[0] / 255
        mean, std = (
            torch.tensor(_NORMALISATION[self.tracker], device=device)
            .unsqueeze(-1)
            .unsqueeze(-1)
        )
        cache = self.new_session(size).cache
        return SamFrame(size, (pixels - mean) / std, cache)

    def start(
        self,
        frame: SamFrame,
        masks: np.ndarray,
        index: int,
        length: int,
        forward: MaskTracker | None = None,
    ) -> MaskTracker:
        """Start at a key frame; the way back goes on with the session."""
        if forward is None:
            return SamTracker(self, frame, masks, index, length)
        forward.backward = True
        return forward


class SamTracker(MaskTracker):
    """An inference session of objects with one key frame.

    Args:
        propagator (SAM2Propagator): Holds the model.
        frame (SamFrame): The key frame.
        masks (np.ndarray): bool, shape (n, H, W).
        index (int): Number of the key frame.
        length (int): Frames of the video.
    """

    def __init__(
        self,
        propagator: SAM2Propagator,
        frame: SamFrame,
        masks: np.ndarray,
        index: int,
        length: int,
    ) -> None:
        self.model = propagator.model
        self.key = index
        self.backward = False
        config = self.model.config
        self.reach = max(
            config.num_maskmem, config.max_object_pointers_in_encoder
        )
        self.session = session = propagator.new_session(frame.size)
        session.processed_frames = _CurrentFrame(length)
        side = config.image_size
        seeds = torch.from_numpy(masks)[:, None].to(frame.pixels)
        seeds = _resize(seeds, (side, side), antialias=True) >= 0.5
        for n, seed in enumerate(seeds):
            session.obj_id_to_idx(n)
            session.add_mask_inputs(n, index, seed[None])
        session.obj_with_new_inputs = list(range(len(masks)))
        self._run(frame, index)

    def _run(self, frame: SamFrame, index: int) -> Tensor:
        """Run the model on a frame; low-resolution logits (n, 1, h, w)."""
        session = self.session
        session.cache = frame.cache
        session.processed_frames.pixels = frame.pixels
        output = self.model(session, frame_idx=index, reverse=self.backward)
        session.processed_frames.pixels = None
        for outputs in session.output_dict_per_obj.values():
            for kept in outputs.values():
                for values in kept.values():
                    # large, and needed for the memory of this frame only
                    values.pop('high_res_masks', None)
            kept = outputs['non_cond_frame_outputs']
            for old in [i for i in kept if not self._is_needed(i, index)]:
                del kept[old]
        return output.pred_masks

    def _is_needed(self, old: int, index: int) -> bool:
        """Whether the memory of a later frame may hold an older output."""
        if abs(old - index) < self.reach:
            return True
        # the way back begins with those that follow the key frame
        return not self.backward and old - self.key < self.reach

    def step(self, frame: SamFrame, index: int) -> ScoredMasks:
        """Track the objects in the next frame."""
        logits = self._run(frame, index)
        masks = _resize(logits, frame.size)[:, 0] > 0
        scores = torch.cat(
            [
                outputs['non_cond_frame_outputs'][index]['object_score_logits']
                for outputs in self.session.output_dict_per_obj.values()
            ]
        )
        return ScoredMasks(
            masks.cpu().numpy(), scores.flatten().sigmoid().cpu().numpy()
        )


def _resize(
    values: Tensor, size: tuple[int, int], antialias: bool = False
) -> Tensor:
    return F.interpolate(
        values.float(), size, mode='bilinear', antialias=antialias
    )
