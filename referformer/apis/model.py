# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""A model and its pipeline, from a config and a checkpoint."""

import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from mmcv.transforms import (
    LoadAnnotations,
    LoadImageFromFile,
    TransformBroadcaster,
)
from mmdet.datasets.transforms import (
    BaseFrameSample,
    PackDetInputs,
    PackTrackInputs,
)
from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.registry import DefaultScope

from referformer.checkpoints.initial import whole_checkpoint_follows
from referformer.checkpoints.io import load_checkpoint_safely, state_dict_of
from referformer.checkpoints.matching import require_matching_weights
from referformer.datasets.transforms import (
    BaseLoadReferAnnotations,
    LoadReferFrame,
    LoadReferVideoFrames,
    NormalizeText,
    PackReferInputs,
    SampleAllFrames,
    SampleClipFrames,
    SampleWindow,
)
from referformer.errors import ConfigError
from referformer.models import ReferFormer
from referformer.registry import MODELS, TRANSFORMS
from referformer.utils.configs import read_config

#: Transforms without a meaning for decoded frames: these, what is derived
#: from them, and those derived from ``NormalizeText``.
_NOT_OF_FRAMES = (
    LoadAnnotations,
    LoadImageFromFile,
    LoadReferFrame,
    LoadReferVideoFrames,
    BaseLoadReferAnnotations,
    BaseFrameSample,
    SampleAllFrames,
    SampleClipFrames,
    SampleWindow,
    PackDetInputs,
    PackTrackInputs,
    PackReferInputs,
)


def init_model(
    config: str | os.PathLike[str] | Config | dict,
    checkpoint: str | os.PathLike[str],
    device: str | torch.device | None = None,
) -> ReferFormer:
    """Build a model and load its weights.

    Args:
        config (str | PathLike | Config | dict): A config, its file or name.
        checkpoint (str | PathLike): Its weights. No code in the file is run.
        device (str | torch.device, optional): Where to put it. Defaults to
            None: a GPU, if there is one.

    Returns:
        ReferFormer: In evaluation mode; ``cfg`` is the config.

    Raises:
        ConfigError: If the config is missing or has no ReferFormer, or there
            is no such device.
        CheckpointError: If the checkpoint is missing or does not belong to
            the config.
    """
    cfg = read_config(config)
    name = cfg.filename or 'the config'
    if 'model' not in cfg:
        raise ConfigError(
            f'{name} has no "model"; give a config such as those in configs/.'
        )
    device = device or get_device()
    try:
        torch.empty(0, device=device)
    # PyTorch built without CUDA asserts that there is none
    except (AssertionError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f'device {str(device)!r} cannot be used ({reason}).'
        ) from error
    kind = cfg.model.type
    found = MODELS.get(kind) if isinstance(kind, str) else kind
    if not (isinstance(found, type) and issubclass(found, ReferFormer)):
        raise ConfigError(
            f'{name} is a config of {kind} (model.type), not of ReferFormer.'
        )
    weights = state_dict_of(load_checkpoint_safely(checkpoint))
    with (
        DefaultScope.overwrite_default_scope('referformer'),
        whole_checkpoint_follows(),
    ):
        model = MODELS.build(cfg.model)
    require_matching_weights(model, weights, source=str(checkpoint))
    model.load_state_dict(weights, strict=False)
    model.cfg = cfg
    return model.to(device).eval()


class FramePipeline:
    """The test pipeline of a config, for frames that are decoded already.

    Its transforms of frames are kept, so that frames get the size the model
    was tested with. Transforms that read files, choose frames or pack samples
    are left out, those of expressions are applied to the expressions. The
    base class of a transform decides.

    Args:
        cfg (Config): A config with ``test_dataloader`` or
            ``test_pipeline``.

    Raises:
        ConfigError: If the config has no test pipeline.
    """

    def __init__(self, cfg: Config | ConfigDict) -> None:
        frames, texts = split_pipeline(cfg)
        self.transforms = [_build(step) for step in frames]
        self.text_transforms = [_build(step) for step in texts]

    def normalize(self, text: str) -> str:
        """Return an expression, normalised as in training."""
        for transform in self.text_transforms:
            text = transform({'text': text})['text']
        return text.strip()

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Turn a frame (H, W, 3), uint8, BGR, into the network's (h, w, 3)."""
        shape = image.shape[:2]
        results = {'img': image, 'img_shape': shape, 'ori_shape': shape}
        for transform in self.transforms:
            try:
                results = transform(results)
            except KeyError as error:
                raise ConfigError(
                    f'{type(transform).__name__} of the test pipeline needs '
                    f'{error}, which a decoded frame lacks; derive it from '
                    'one of the base classes named in docs/inference.md.'
                ) from error
        return results['img']


def split_pipeline(cfg: Config | ConfigDict) -> tuple[list, list]:
    """Return the steps of a test that decoded frames and sentences need.

    Args:
        cfg (Config): See :class:`FramePipeline`.

    Returns:
        tuple[list, list]: Configs of transforms of frames, and of sentences.

    Raises:
        ConfigError: If the config has no test pipeline.
    """
    steps = _find_pipeline(cfg, 'test')
    if steps is None:
        raise ConfigError(
            'The config has no test_dataloader.dataset.pipeline, which '
            'tells how frames must be resized; add it.'
        )
    frames = [
        step
        for step, kind in _flatten(steps)
        if not issubclass(kind, (*_NOT_OF_FRAMES, NormalizeText))
    ]
    # a test may take sentences as they are, in spite of the training
    for pipeline in (steps, _find_pipeline(cfg, 'train') or ()):
        texts = [
            step
            for step, kind in _flatten(pipeline)
            if issubclass(kind, NormalizeText)
        ]
        if texts:
            break
    return frames, texts


def _find_pipeline(
    cfg: Config | ConfigDict, split: str
) -> Sequence[dict] | None:
    """Return a pipeline, within wrapped datasets too."""
    dataset = (cfg.get(f'{split}_dataloader') or {}).get('dataset') or {}
    while 'pipeline' not in dataset and dataset.get('datasets'):
        dataset = dataset['datasets'][0]
    while 'pipeline' not in dataset and dataset.get('dataset'):
        dataset = dataset['dataset']
    return dataset.get('pipeline') or cfg.get(f'{split}_pipeline')


def _flatten(steps: Sequence[dict]) -> Iterator[tuple[dict, type]]:
    """Yield the transforms, within broadcasters too, with their classes."""
    for step in steps:
        kind = step['type']
        if isinstance(kind, str):
            kind = TRANSFORMS.get(kind)
        if kind is None:
            raise ConfigError(f'there is no transform of type {step["type"]}.')
        if issubclass(kind, TransformBroadcaster):
            yield from _flatten(step['transforms'])
        else:
            yield step, kind


def _build(step: dict) -> Callable[[dict], dict]:
    with DefaultScope.overwrite_default_scope('referformer'):
        return TRANSFORMS.build(step)
