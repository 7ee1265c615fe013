# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""What the training and test scripts share."""

import difflib
import os
import re
import traceback
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from operator import itemgetter
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed
from mmengine import registry as mmengine_registry
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.registry import Registry

from referformer.errors import ConfigError, ReferError
from referformer.utils.cli import keep_errors_in, prepare_output
from referformer.utils.configs import (
    adapt_loaders,
    config_nodes,
    data_roots,
    move_data,
    one_line,
    read_config,
)
from referformer.utils.processes import (
    end_children_with_this_process,
    end_with_parent,
)

__all__ = [
    'explain_config_errors',
    'load_config',
    'load_run',
    'prepare_processes',
    'require_model',
]


def load_config(
    path: str,
    cfg_options: Mapping[str, Any] | None = None,
    work_dir: str | None = None,
    launcher: str = 'none',
) -> Config:
    """Read a config and apply the command line to it.

    Args:
        path (str): The config file, or the name of one in ``configs/``.
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
    cfg = read_config(path)
    cfg.launcher = launcher
    # the name is known even where a config does not use it
    roots = [*{'data_root': '', **data_roots(cfg)}.items()]
    try:
        cfg.merge_from_dict(dict(cfg_options or {}))
    except Exception as error:
        given = ' '.join(f'{k}={v}' for k, v in cfg_options.items())
        raise ConfigError(
            f'{path} cannot take --cfg-options {given}: {one_line(error)}',
            file=path,
            value=dict(cfg_options),
        ) from error
    move_data(cfg, roots, path)
    adapt_loaders(cfg)
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs', Path(path).stem))
    keep_errors_in(cfg.work_dir)
    return cfg


def load_run(args: Namespace) -> Config:
    """Read the config of a training or a test; apply the options of both.

    Args:
        args (Namespace): The command line.

    Raises:
        ConfigError: If it cannot be used; see :func:`load_config` and
            :func:`require_model`.
    """
    cfg = load_config(
        args.config, args.cfg_options, args.work_dir, args.launcher
    )
    require_model(args.config, cfg)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    prepare_output(Path(cfg.work_dir, 'errors.log'), '--work-dir')
    if args.precision == 'fp16' and not torch.cuda.is_available():
        raise ConfigError(
            '--precision fp16 needs a CUDA device, and none was found; '
            '--precision bf16 does not.'
        )
    if args.tf32:
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
    return cfg


@contextmanager
def explain_config_errors(path: str, cfg: Config) -> Iterator[None]:
    """Say what is wrong with a config from which something cannot be built.

    Whatever mmengine's ``Runner`` and its registries raise, and whatever a
    component raises while it is built from its settings, becomes a
    :class:`ConfigError` that names the part; an error of later stays what
    it is.

    Args:
        path (str): The config file, for the message.
        cfg (Config): Its content, where the faulty part is looked for.

    Raises:
        ConfigError: In the place of the built-in error.
    """
    try:
        yield
    except (ReferError, OSError):
        raise
    except Exception as error:
        frames = [f for f, _ in traceback.walk_tb(error.__traceback__)]
        parts = [part for f in frames if (part := _part_built_in(f))]
        last = frames[-1].f_globals.get('__name__', '')
        refused = last.startswith('mmengine.registry.')
        if not (parts or refused or last == 'mmengine.runner.runner'):
            raise
        text, remedy = one_line(error), None
        unknown = re.match(r'(\S+) is not in the (\S+)::(.+?) registry', text)
        if unknown:
            name, scope, kind = unknown.groups()
            text = f'there is no {kind} of type "{name}"'
            remedy = _suggest_name(name, scope, kind)
        elif not refused and parts:
            text = f'{type(error).__name__}: {text}'
        key = _key_of(cfg, parts[-1]) if parts else None
        raise ConfigError(
            f'{path}{f" ({key})" if key else ""}: {text}',
            file=path,
            remedy=remedy,
        ) from error


def _part_built_in(frame: FrameType) -> Mapping[str, Any] | None:
    """The part of the config that a function of mmengine is building."""
    name = {
        'build_from_cfg': 'cfg',
        'build_dataloader': 'dataloader',
    }.get(frame.f_code.co_name)
    part = frame.f_locals.get(name)
    return part if isinstance(part, Mapping) else None


def _suggest_name(name: str, scope: str, kind: str) -> str:
    """What to write for a name that a scope does not have in a registry."""
    full_names: dict[str, str] = {}
    for root in vars(mmengine_registry).values():
        if not isinstance(root, Registry) or root.name != kind:
            continue
        children = root.children.values()
        for registry in (root, *sorted(children, key=lambda r: r.scope)):
            with suppress(ImportError):
                registry.import_from_location()
            bare = registry.scope in ('mmengine', scope)
            prefix = '' if bare else f'{registry.scope}.'
            for key in registry.module_dict:
                if bare or key not in full_names:
                    full_names[key] = prefix + key
    short = name.rsplit('.', 1)[-1]
    if short in full_names:
        return f'write {full_names[short]}.'
    near = difflib.get_close_matches(short, full_names, n=3)
    if not near:
        return 'name the module that registers it in custom_imports.'
    names = ', '.join(full_names[key] for key in near)
    return f'the nearest name{"s are" if near[1:] else " is"} {names}.'


def _key_of(cfg: Config, part: Mapping[str, Any]) -> str | None:
    """Dotted key of the part, or of that of its type with most in common."""
    found = [
        (sum(part.get(k) == v for k, v in node.items()), key)
        for key, node in config_nodes(cfg)
        if node.get('type') == part.get('type')
    ]
    return max(found, key=itemgetter(0), default=(0, None))[1]


def require_model(path: str, cfg: Config) -> None:
    """Refuse a config of another framework.

    Args:
        path (str): The config file, for the message.
        cfg (Config): Its content.

    Raises:
        ConfigError: If it has no model, or one of another package.
    """
    kind = (cfg.get('model') or {}).get('type')
    if kind is None:
        raise ConfigError(
            f'{path} has no model; give a config such as those in configs/.',
            file=path,
        )
    scope, _, name = str(kind).rpartition('.')
    framework = scope or cfg.get('default_scope')
    ours = mmengine_registry.MODELS.get(f'referformer.{name}')
    if framework in MODULE2PACKAGE and ours is None:
        raise ConfigError(
            f'{path} is a config of {framework}: its model is a {name}; give '
            'a config whose model is of this package.',
            file=path,
            value=kind,
        )


def prepare_processes(cfg: Config) -> None:
    """Make processes end together, and a distributed run work without CUDA.

    Workers of data loaders end with this process, and this one with torchrun,
    whatever ended them. Nothing waits for a batch of theirs longer than
    ``data_timeout`` of the config, in seconds.

    mmengine's start-up selects a CUDA device in every process and wraps the
    model for it. Without CUDA the process group is therefore made here, with
    gloo, which mmengine then uses as it finds it.

    Args:
        cfg (Config): The run's config, changed in place: the data loaders,
            and without a CUDA device ``env_cfg`` and ``model_wrapper_cfg``.
    """
    _limit_waiting(cfg)
    end_children_with_this_process()
    if 'TORCHELASTIC_RUN_ID' in os.environ:  # torchrun is the parent
        end_with_parent(os.getppid())
    if cfg.get('launcher', 'none') == 'none' or torch.cuda.is_available():
        return
    if cfg.launcher != 'pytorch':
        raise ConfigError(
            f'launcher "{cfg.launcher}" needs CUDA devices; on CPUs start '
            'the processes with tools/dist_train.sh.'
        )
    cfg.setdefault('env_cfg', {}).setdefault('dist_cfg', {})
    settings = cfg.env_cfg.dist_cfg
    settings.backend = 'gloo'
    wrapper = cfg.get('model_wrapper_cfg') or dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    cfg.model_wrapper_cfg = dict(wrapper, device_ids=None)
    if not torch.distributed.is_initialized():
        seconds = settings.get('timeout')
        torch.distributed.init_process_group(
            backend='gloo',
            timeout=None if seconds is None else timedelta(seconds=seconds),
        )


def _limit_waiting(cfg: Config) -> None:
    """Give the loaders with workers the time limit of the config."""
    for stage in ('train', 'val', 'test'):
        loader = cfg.get(f'{stage}_dataloader')
        if isinstance(loader, Mapping) and loader.get('num_workers'):
            loader.setdefault('timeout', cfg.get('data_timeout', 0))
