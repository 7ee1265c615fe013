# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""What the training and test scripts share."""

import difflib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from mmengine import registry as mmengine_registry
from mmengine.config import Config
from mmengine.registry import Registry

from referformer.errors import ConfigError, MissingConfigError, ReferError
from referformer.utils.cli import keep_errors_in

__all__ = [
    'allow_tf32',
    'explain_config_errors',
    'load_config',
    'prepare_processes',
]


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
        MissingConfigError: If there is no such config.
        ConfigError: If the config cannot be read, or a setting cannot be
            overridden.
    """
    if not Path(path).is_file():
        raise MissingConfigError(
            f'{path} is not a file; give a config.', file=path
        )
    try:
        cfg = Config.fromfile(path)
    except Exception as error:  # a config is code and may raise anything
        raise ConfigError(
            f'{path} cannot be read as a config '
            f'({type(error).__name__}: {_one_line(error)}).',
            file=path,
        ) from error
    cfg.launcher = launcher
    try:
        cfg.merge_from_dict(dict(cfg_options or {}))
    except Exception as error:
        raise ConfigError(
            f'{path} cannot take --cfg-options {_listed(cfg_options)}: '
            f'{_one_line(error)}',
            file=path,
            value=dict(cfg_options),
        ) from error
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs', Path(path).stem))
    keep_errors_in(cfg.work_dir)
    return cfg


@contextmanager
def explain_config_errors(path: str, cfg: Config) -> Iterator[None]:
    """Say what is wrong with a config from which something cannot be built.

    Registries and mmengine's ``Runner`` raise built-in errors for a wrong
    ``type``, an argument that a component lacks, or settings that do not go
    together. Only those become a :class:`ConfigError`; an error inside of a
    component stays what it is.

    Args:
        path (str): The config file, for the message.
        cfg (Config): Its content, where the faulty part is looked for.

    Raises:
        ConfigError: In the place of mmengine's error.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, ReferError) or not _is_refused_config(error):
            raise
        text = _one_line(error)
        unknown = re.match(
            r'(\S+) is not in the (?:\S+::)?(.+?) registry', text
        )
        if unknown:
            name, kind = unknown.groups()
            near = _nearest_names(name, kind)
            remedy = (
                f'the nearest names are {", ".join(near)}'
                if near
                else 'name the module that registers it in custom_imports'
            )
            text = f'there is no {kind} of type "{name}"'
        else:
            called = re.match(r'(\w+)\.__init__\(\)', text)
            name = called and called[1]
            remedy = None
        key = _key_of_type(cfg, name) if name else None
        raise ConfigError(
            f'{path}{f" ({key})" if key else ""}: {text}',
            file=path,
            value=name,
            remedy=remedy,
        ) from error


def _is_refused_config(error: BaseException) -> bool:
    """Whether mmengine itself raised this about what a config holds."""
    trace = error.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    module = trace.tb_frame.f_globals.get('__name__', '')
    return module.startswith('mmengine.registry.') or module in (
        'mmengine.runner.runner',
        'mmengine.utils.manager',  # makes what exists once, by its arguments
    )


def _nearest_names(name: str, kind: str) -> list[str]:
    """Registered names like ``name``, as a config would write them."""
    full_names = {}
    roots = [
        registry
        for registry in vars(mmengine_registry).values()
        if isinstance(registry, Registry) and registry.name == kind
    ]
    for root in roots:
        for registry in (root, *root.children.values()):
            foreign = registry.scope not in ('mmengine', 'referformer')
            prefix = f'{registry.scope}.' if foreign else ''
            for key in registry.module_dict:
                full_names.setdefault(key, prefix + key)
    near = difflib.get_close_matches(name.split('.')[-1], full_names, n=3)
    return [full_names[key] for key in near]


def _key_of_type(node: Any, name: str, key: str = '') -> str | None:
    """Dotted key of the first part of a config with this ``type``."""
    if isinstance(node, Mapping | Config):
        if node.get('type') == name:
            return key
        parts = node.items()
    elif isinstance(node, list | tuple):
        parts = enumerate(node)
    else:
        return None
    found = (
        _key_of_type(value, name, f'{key}.{part}' if key else str(part))
        for part, value in parts
    )
    return next(filter(None, found), None)


def _one_line(error: BaseException) -> str:
    """Return what an error says, on one line."""
    text = error.args[0] if isinstance(error, KeyError) else error
    return ' '.join(str(text).split()) or type(error).__name__


def _listed(options: Mapping[str, Any]) -> str:
    return ' '.join(f'{key}={value}' for key, value in options.items())


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
        raise ConfigError(
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
