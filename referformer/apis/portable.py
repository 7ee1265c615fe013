# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""A config as JSON, for a model that strangers load.

A config in Python is code. Its portable form holds the model and the pipeline
of a test in plain JSON, and names nothing but registered components: no
module to import, no file, no address. :func:`from_portable` refuses the rest,
before anything is built from it.
"""

import ast
import re
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry

from referformer.apis.model import split_pipeline
from referformer.errors import ConfigError
from referformer.registry import (
    MODELS,
    TASK_UTILS,
    TRANSFORMS,
    is_registered,
    registries_like,
)

__all__ = ['TOKENIZER', 'from_portable', 'literal_config', 'to_portable']

#: What ``text_encoder.tokenizer`` is where its files lie beside the config.
TOKENIZER = 'tokenizer'
_TUPLE = '$tuple'
_PARTS = {'model': (MODELS, TASK_UTILS), 'test_pipeline': (TRANSFORMS,)}
# settings that name files, or make transformers fetch or run something
_REFUSED_KEYS = {
    '_base_',
    '_scope_',
    'attn_implementation',
    'auto_map',
    'backend_args',
    'checkpoint',
    'checkpoint_path',
    'custom_imports',
    'file_client_args',
    'init_cfg',
    'local_root',
    'pretrained_cfg_overlay',
    'quantization_config',
    'trust_remote_code',
}
_LIKE_A_PATH = re.compile(
    r'[/\\~\0]|\.\.|\.(bin|gz|h5|json|npy|npz|pickle|pkl|pt|pth|py|safetensors'
    r'|so|tar|txt|ya?ml|zip)$',
    re.IGNORECASE,
)


def to_portable(cfg: Config) -> dict[str, Any]:
    """Turn a config into its portable form.

    Settings that only training needs are left out: files of initial weights,
    data and schedules.

    Args:
        cfg (Config): With ``model`` and a test pipeline. A language model
            must be given by ``hf_config`` or the caller must replace it.

    Raises:
        ConfigError: If something in it is not portable.
    """
    frames, texts = split_pipeline(cfg)
    parts = {'model': cfg.model, 'test_pipeline': [*frames, *texts]}
    portable = {name: _plain(part, name) for name, part in parts.items()}
    from_portable(portable)  # what nobody could load is not written
    return portable


def _plain(value: Any, where: str) -> Any:
    """Turn a setting into JSON."""
    if isinstance(value, dict):
        return {
            str(key): _plain(item, f'{where}.{key}')
            for key, item in value.items()
            if not _concerns_training(key, item)
        }
    if isinstance(value, list):
        return [_plain(item, where) for item in value]
    if isinstance(value, tuple):
        return {_TUPLE: [_plain(item, where) for item in value]}
    if isinstance(value, type):  # of a config in the pure Python style
        return _name_of(value, where)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise ConfigError(
        f'{where} is {value!r}, which JSON cannot hold; write it as numbers, '
        'text, lists and dicts.',
        value=where,
    )


def _concerns_training(key: str, value: Any) -> bool:
    """Whether a setting tells how weights begin."""
    return key in ('init_cfg', 'local_root') or (
        key == 'pretrained' and value in (True, None)
    )


def _name_of(kind: type, where: str) -> str:
    """The registered name of a component."""
    for registry in (MODELS, TASK_UTILS, TRANSFORMS):
        for scope, found in registries_like(registry):
            if found.module_dict.get(kind.__name__) is kind:
                return f'{scope}{kind.__name__}'
    raise ConfigError(
        f'{where} is {kind.__name__}, which is in no registry; register it.',
        value=where,
    )


def from_portable(content: dict[str, Any]) -> Config:
    """Check a portable config, and make it one of mmengine.

    Args:
        content (dict): ``model`` and ``test_pipeline``, as read from JSON.

    Raises:
        ConfigError: If it names anything but registered components, or holds
            a setting that would read a file, fetch something or run code.
    """
    for name in content.keys() ^ _PARTS.keys():
        raise ConfigError(
            f'a portable config has {" and ".join(_PARTS)}, and this one '
            f'{"has" if name in content else "lacks"} {name!r}.',
            value=name,
        )
    parts = {}
    for name, registries in _PARTS.items():
        parts[name] = _checked(content[name], name, registries)
        if not isinstance(parts[name], dict if name == 'model' else list):
            raise _refusal(name, parts[name], 'is no model or pipeline')
    return Config(dict(parts, default_scope='referformer'))


def _checked(value: Any, where: str, registries: tuple[Registry, ...]) -> Any:
    """Return a setting with its tuples, or refuse it."""
    if isinstance(value, list):
        return [_checked(item, where, registries) for item in value]
    if isinstance(value, str):
        if _LIKE_A_PATH.search(value):
            raise _refusal(where, value, 'may be a file or an address')
        return value
    if not isinstance(value, dict):
        return value
    if value.keys() == {_TUPLE}:
        return tuple(_checked(value[_TUPLE], where, registries))
    checked = {}
    for key, item in value.items():
        inner = f'{where}.{key}'
        if key in _REFUSED_KEYS or key.startswith('_'):
            raise _refusal(inner, item, 'may read a file or run code')
        if key == 'pretrained' and item:
            raise _refusal(inner, item, 'reads a file')
        if key == 'tokenizer' and item != TOKENIZER and isinstance(item, str):
            raise _refusal(inner, item, 'reads a file')
        if key == 'type' and registries:
            if not is_registered(item, *registries):
                reason = 'is not a component of a registry'
                raise _refusal(inner, item, reason)
            checked[key] = item
            continue
        # settings of transformers, whose types are not of a registry
        known = () if key == 'hf_config' else registries
        checked[key] = _checked(item, inner, known)
    return checked


def _refusal(where: str, value: Any, reason: str) -> ConfigError:
    return ConfigError(
        f'{where} is {value!r}, which {reason}; a config from elsewhere may '
        'name registered components and numbers only, so nothing was built',
        value=value,
        remedy='use the Python config of this model where you trust it.',
    )


def literal_config(text: str) -> Config:
    """Read the config that a checkpoint keeps, without running it.

    Args:
        text (str): As mmengine writes it into ``meta['cfg']``: assignments
            of literals and calls of ``dict``.

    Raises:
        ConfigError: If anything else is in it.
    """

    def value_of(node: ast.expr) -> Any:
        if isinstance(node, ast.Call):
            name = getattr(node.func, 'id', None)
            if name == 'dict' and not node.args:
                return {k.arg: value_of(k.value) for k in node.keywords}
        elif isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            return {ast.literal_eval(k): value_of(v) for k, v in pairs}
        elif isinstance(node, ast.List):
            return [value_of(item) for item in node.elts]
        elif isinstance(node, ast.Tuple):
            return tuple(value_of(item) for item in node.elts)
        return ast.literal_eval(node)

    content = {}
    try:
        for line in ast.parse(text).body:
            if not isinstance(line, ast.Assign):
                raise ValueError(f'line {line.lineno} is no assignment')
            content[line.targets[0].id] = value_of(line.value)
    except (AttributeError, SyntaxError, TypeError, ValueError) as error:
        raise ConfigError(
            f'the config in the checkpoint holds more than plain values '
            f'({error}), and is not run',
            remedy='give the config of the model.',
        ) from error
    return Config(content)
