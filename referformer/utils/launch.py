# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""What the training and test scripts share."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from mmengine.config import Config

__all__ = ['allow_tf32', 'load_config', 'prepare_processes', 'write_json']


def load_config(
    path: str,
    cfg_options: Mapping[str, Any] | None = None,
    work_dir: str | None = None,
    launcher: str = 'none',
) -> Config:
    """Read a config and apply the command line to it.

    Args:
        path (str): The config file.
        cfg_options (Mapping[str, Any], optional): Settings to override, keys
            dotted. Defaults to None.
        work_dir (str, optional): Folder for everything that is written.
            Defaults to None: the config's, or else
            ``work_dirs/<name of the config>``.
        launcher (str): ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.

    Returns:
        Config: The merged config.

    Raises:
        FileNotFoundError: If there is no such config.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'{path} is not a file; give a config.')
    cfg = Config.fromfile(path)
    cfg.launcher = launcher
    if cfg_options:
        cfg.merge_from_dict(dict(cfg_options))
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs', Path(path).stem))
    return cfg


def prepare_processes(cfg: Config) -> None:
    """Make a distributed run work on machines without CUDA too.

    mmengine's start-up selects a CUDA device in every process and wraps the
    model for it. Without CUDA the process group is therefore made here, with
    gloo, which mmengine then uses as it finds it.

    Args:
        cfg (Config): The run's config; ``env_cfg`` and ``model_wrapper_cfg``
            are changed in place when there is no CUDA device.
    """
    if cfg.get('launcher', 'none') == 'none' or torch.cuda.is_available():
        return
    if cfg.launcher != 'pytorch':
        raise ValueError(
            f'launcher "{cfg.launcher}" needs CUDA devices; on CPUs start '
            'the processes with tools/dist_train.sh.'
        )
    cfg.setdefault('env_cfg', {}).setdefault('dist_cfg', {})
    cfg.env_cfg.dist_cfg.backend = 'gloo'
    wrapper = cfg.get('model_wrapper_cfg') or dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    cfg.model_wrapper_cfg = dict(wrapper, device_ids=None)
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group(backend='gloo')


def allow_tf32() -> None:
    """Let GPUs round the inputs of products and convolutions to TF32."""
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write JSON to a temporary name, then rename it.

    Args:
        path (str | PathLike): Where to; missing folders are made.
        content (Any): What to write; numpy scalars become plain numbers.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'.{os.getpid()}-{path.name}')
    try:
        part.write_text(
            json.dumps(content, indent=2, default=_plain) + '\n', 'utf-8'
        )
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    """Return what a numpy or torch value is in JSON."""
    if hasattr(value, 'tolist'):
        return value.tolist()
    raise TypeError(
        f'{type(value).__name__} cannot be written as JSON: {value!r}'
    )
