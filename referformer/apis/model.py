# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""A model and its pipeline, from a config and a checkpoint."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.registry import DefaultScope

import referformer
from referformer.checkpoints.io import load_weights
from referformer.datasets.transforms.text import normalize_text
from referformer.errors import ConfigError, MissingConfigError
from referformer.models import ReferFormer
from referformer.registry import MODELS, TRANSFORMS


def find_config(config: str | os.PathLike[str]) -> Path:
    """Find a config by its file or name, such as ``'referformer_r50_ytvos'``.

    Raises:
        MissingConfigError: If there is none; similar names are listed.
    """
    path = Path(config).expanduser()
    if path.is_file():
        return path
    package = Path(referformer.__file__).parent
    folders = package.parent / 'configs', package / '.mim' / 'configs'
    for folder in folders:
        named = folder / f'{str(config).removesuffix(".py")}.py'
        if named.is_file() and named.parent == folder:
            return named
    known = sorted(path.stem for path in folders[0].glob('referformer_*.py'))
    listed = f' ({", ".join(known)})' if known else ''
    raise MissingConfigError(
        f'{config} is neither a config file nor the name of one{listed}.'
    )


def load_config(config: str | os.PathLike[str] | Config | dict) -> Config:
    """Return a config, whatever it is given as."""
    if isinstance(config, Config):
        return config
    if isinstance(config, dict):
        return Config(dict(config))
    return Config.fromfile(find_config(config))


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
        ConfigError: If the config is missing or has no model, or there is
            no such device.
        CheckpointError: If the checkpoint is missing or does not belong to
            the config.
    """
    cfg = load_config(config)
    if 'model' not in cfg:
        raise ConfigError(
            f'{cfg.filename or "the config"} has no "model"; give a config '
            'such as those in configs/.'
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
    with DefaultScope.overwrite_default_scope('referformer'):
        model = MODELS.build(cfg.model)
    load_weights(model, checkpoint)
    model.cfg = cfg
    return model.to(device).eval()


class FramePipeline:
    """The test pipeline of a config, for frames that are read already.

    Its transforms of frames are kept, so that frames get the size the model
    was tested with; reading, sampling and packing are left out.

    Args:
        cfg (Config): A config with ``test_dataloader`` or
            ``test_pipeline``.

    Attributes:
        normalize (Callable): Expression -> expression as the model was
            taught it: in lower case if either pipeline of the config has
            ``NormalizeText``.

    Raises:
        ConfigError: If the config has no test pipeline.
    """

    def __init__(self, cfg: Config | ConfigDict) -> None:
        steps = self._find(cfg, 'test')
        if steps is None:
            raise ConfigError(
                'The config has no test_dataloader.dataset.pipeline, which '
                'tells how frames must be resized; add it.'
            )
        taught = [*steps, *(self._find(cfg, 'train') or ())]
        normalized = any(_name_of(s) == 'NormalizeText' for s in taught)
        self.normalize: Callable[[str], str] = (
            normalize_text if normalized else str.strip
        )
        self.transforms = []
        self._add(steps)

    @staticmethod
    def _find(cfg: Config | ConfigDict, split: str) -> Sequence[dict] | None:
        """Return a pipeline, within wrapped datasets too."""
        dataset = (cfg.get(f'{split}_dataloader') or {}).get('dataset') or {}
        while 'pipeline' not in dataset and dataset.get('datasets'):
            dataset = dataset['datasets'][0]
        while 'pipeline' not in dataset and dataset.get('dataset'):
            dataset = dataset['dataset']
        return dataset.get('pipeline') or cfg.get(f'{split}_pipeline')

    def _add(self, steps: Sequence[dict]) -> None:
        """Build what changes frames."""
        for step in steps:
            name = _name_of(step)
            if name == 'TransformBroadcaster':
                self._add(step['transforms'])
            elif not name.startswith(('Load', 'Sample', 'Pack', 'Normalize')):
                with DefaultScope.overwrite_default_scope('referformer'):
                    self.transforms.append(TRANSFORMS.build(step))

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Turn a frame (H, W, 3), uint8, BGR, into the network's (h, w, 3)."""
        shape = image.shape[:2]
        results = {'img': image, 'img_shape': shape, 'ori_shape': shape}
        for transform in self.transforms:
            results = transform(results)
        return results['img']


def _name_of(step: dict) -> str:
    """Return the name of a transform; pure-Python configs hold classes."""
    kind = step['type']
    name = kind if isinstance(kind, str) else kind.__name__
    return name.rsplit('.', 1)[-1]
