# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Finding and reading of configs."""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from referformer.errors import ConfigError, MissingConfigError

__all__ = [
    'adapt_loaders',
    'config_nodes',
    'data_roots',
    'find_config',
    'move_data',
    'one_line',
    'read_config',
]

# What PyTorch refuses of a loader that has no workers.
_OF_WORKERS = (
    *('persistent_workers', 'prefetch_factor', 'timeout'),
    'multiprocessing_context',
)


def find_config(config: str | os.PathLike[str]) -> Path:
    """Find a config by its file or name, such as ``'referformer_r50_ytvos'``.

    Raises:
        MissingConfigError: If there is none; the known names are listed.
    """
    path = Path(config).expanduser()
    if path.is_file():
        return path
    package = Path(__file__).parents[1]
    folders = package.parent / 'configs', package / '.mim' / 'configs'
    for folder in folders:
        named = folder / f'{str(config).removesuffix(".py")}.py'
        if named.is_file() and named.parent == folder:
            return named
    known = sorted(path.stem for path in folders[0].glob('referformer_*.py'))
    listed = f' ({", ".join(known)})' if known else ''
    raise MissingConfigError(
        f'{config} is neither a config file nor the name of one{listed}.',
        file=path,
    )


def read_config(config: str | os.PathLike[str] | Config | dict) -> Config:
    """Return a config, given as such, as a dict, by its file or its name.

    A ``data_root`` that a file sets in place of that of its ``_base_``
    reaches the datasets, see :func:`move_data`.

    Raises:
        MissingConfigError: If there is no such config.
        ConfigError: If it cannot be read.
    """
    if isinstance(config, Config):
        return config
    if isinstance(config, dict):
        return Config(dict(config))
    path = find_config(config)
    try:
        cfg = Config.fromfile(path)
        if data_roots(cfg):
            move_data(cfg, _former_roots(path), path)
        return cfg
    except ConfigError:
        raise
    except ImportError as error:
        # mmengine says which module of custom_imports, and not why
        reason: BaseException = error
        while isinstance(reason.__context__, ImportError):
            reason = reason.__context__
        raise ConfigError(
            f'{path} names a module that cannot be imported '
            f'({one_line(reason)})',
            file=path,
            remedy='install it, or put its folder into PYTHONPATH.',
        ) from error
    except Exception as error:  # a config is code and may raise anything
        raise ConfigError(
            f'{path} cannot be read as a config '
            f'({type(error).__name__}: {one_line(error)}).',
            file=path,
        ) from error


def data_roots(cfg: Config) -> dict[str, str]:
    """Folders of data named at the top of a config, such as ``data_root``."""
    return {
        key: value
        for key, value in cfg.items()
        if key.endswith('_root') and isinstance(value, str)
    }


def _former_roots(path: Path) -> list[tuple[str, str]]:
    """The same of its bases and of theirs, as pairs."""
    found: list[tuple[str, str]] = []
    for base in Config._get_base_files(str(path)):
        file = (path.parent / base).resolve()
        if file.is_file():  # the bases of an installed package stay apart
            found += [*data_roots(Config.fromfile(file)).items()]
            found += _former_roots(file)
    return found


def move_data(
    cfg: Config,
    former: Collection[tuple[str, str]],
    path: str | os.PathLike[str],
) -> None:
    """Let the datasets follow a folder that the top of a config names.

    Python has copied ``data_root`` into the datasets before it was changed.

    Args:
        cfg (Config): Changed in place: datasets with a former folder get
            that of the same name now.
        former (Collection[tuple[str, str]]): Names and folders that the top
            had before, see :func:`data_roots`; other names are left alone.
        path (str | os.PathLike[str]): The config, for messages.

    Raises:
        ConfigError: If no dataset has the changed ``data_root``.
    """
    datasets = {
        key: node
        for key, node in config_nodes(cfg)
        if '_dataloader.' in key and 'data_root' in node
    }
    names = {name for name, _ in former}
    for name, root in data_roots(cfg).items():
        if not datasets or name not in names or (name, root) in former:
            continue
        for node in datasets.values():
            if (name, node['data_root']) in former:
                node['data_root'] = root
        found = {node['data_root'] for node in datasets.values()}
        if name == 'data_root' and root not in found:
            keys = ', '.join(f'{key}.data_root' for key in datasets)
            raise ConfigError(
                f'data_root={root} reaches no dataset of {path}, which '
                f'name {", ".join(sorted(found))}',
                file=path,
                value=root,
                remedy=f'set {keys}.',
            )


def config_nodes(
    node: Any, key: str = ''
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the dotted key of every dict within a config, and the dict."""
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(node, Mapping | Config):
        if key:
            yield key, node
        items = node.items()
    elif isinstance(node, list | tuple):
        items = enumerate(node)
    for name, value in items:
        yield from config_nodes(value, f'{key}.{name}' if key else str(name))


def adapt_loaders(cfg: Config) -> None:
    """Drop settings of worker processes where there are none.

    So ``num_workers=0`` is all that one has to say.

    Args:
        cfg (Config): Changed in place.
    """
    for split in ('train', 'val', 'test'):
        loader = cfg.get(f'{split}_dataloader')
        if isinstance(loader, Mapping) and not loader.get('num_workers', 0):
            for key in _OF_WORKERS:
                loader.pop(key, None)


def one_line(error: BaseException) -> str:
    """Return what an error says, on one line."""
    text = error.args[0] if isinstance(error, KeyError) else error
    return ' '.join(str(text).split()) or type(error).__name__
