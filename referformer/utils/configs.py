# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Finding and reading of configs."""

import os
from pathlib import Path

from mmengine.config import Config

from referformer.errors import ConfigError, MissingConfigError

__all__ = ['find_config', 'one_line', 'read_config']


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
        return Config.fromfile(path)
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


def one_line(error: BaseException) -> str:
    """Return what an error says, on one line."""
    text = error.args[0] if isinstance(error, KeyError) else error
    return ' '.join(str(text).split()) or type(error).__name__
