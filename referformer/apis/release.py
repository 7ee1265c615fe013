# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""A published model: a folder, or a repository of the Hugging Face Hub.

.. code-block:: text

    config.json         the config in portable form, and the hashes
    model.safetensors   the weights alone
    tokenizer/          files of the tokenizer, unless it needs none
    README.md           the model card

Nothing in it is run, and no other file of it is read.
"""

import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config
from mmengine.registry import DefaultScope

from referformer.apis.portable import (
    TOKENIZER,
    from_portable,
    literal_config,
    to_portable,
)
from referformer.checkpoints.hub import (
    WEIGHTS_FILE,
    fetch,
    parse_address,
)
from referformer.checkpoints.initial import whole_checkpoint_follows
from referformer.checkpoints.io import load_checkpoint_safely, state_dict_of
from referformer.checkpoints.matching import require_matching_weights
from referformer.errors import (
    CheckpointError,
    ConfigError,
    MissingCheckpointError,
)
from referformer.formats.files import write_atomic, write_json
from referformer.models import ReferFormer
from referformer.prediction.propagation import read_propagator
from referformer.registry import MODELS
from referformer.utils.configs import read_config
from referformer.version import __version__

__all__ = ['Release', 'open_release', 'publish']

#: A path that ends so is weights, not the name of a repository.
WEIGHT_SUFFIXES = ('.pth', '.pt', '.ckpt', '.safetensors')
CONFIG_FILE = 'config.json'
CARD_FILE = 'README.md'
_LIBRARY = 'referformer-mm'
_FORMAT = 1
#: Files that a tokenizer may have; none of them is a pickle or code.
_TOKENIZER_FILES = {
    f'{TOKENIZER}/{name}'
    for name in (
        'merges.txt',
        'sentencepiece.bpe.model',
        'special_tokens_map.json',
        'spiece.model',
        'tokenizer.json',
        'tokenizer_config.json',
        'vocab.json',
        'vocab.txt',
    )
}


class Release(NamedTuple):
    """A published model on this machine.

    Attributes:
        cfg (Config): ``model`` and ``test_pipeline``.
        weights (Path): The safetensors file.
    """

    cfg: Config
    weights: Path


# -- reading ------------------------------------------------------------------


def open_release(
    source: str | os.PathLike[str], revision: str | None = None
) -> Release:
    """Check a published model; fetch it if it is not here.

    Args:
        source (str | PathLike): A folder, ``owner/repo`` or an address of
            the Hub.
        revision (str, optional): Branch, tag or commit.

    Raises:
        MissingCheckpointError: If there is none.
        ConfigError: If its config could run code or read other files.
        CheckpointError: If it is no published model of this package, or a
            file of it has been changed.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        config = folder / CONFIG_FILE
        if not config.is_file():
            raise MissingCheckpointError(
                f'{folder} has no {CONFIG_FILE}, so it is no published model',
                file=config,
                remedy='make one with tools/model_converters/'
                'publish_model.py.',
            )
        cfg, hashes = _read_config_file(config)
    elif folder.is_file():
        known = (folder.parent / CONFIG_FILE).is_file()
        raise CheckpointError(
            f'{folder} is a file; a published model is a folder',
            file=folder,
            remedy=f'give {folder.parent}.'
            if known
            else 'give the config of these weights too.',
        )
    else:
        repo, file, given = parse_address(source)
        if file is not None:
            raise CheckpointError(
                f'{source} names a file; a published model is a whole '
                f'repository: hf://{repo}.',
                value=str(source),
            )
        if Path(repo).suffix in WEIGHT_SUFFIXES:
            raise MissingCheckpointError(
                f'{source} does not exist',
                file=folder,
                remedy='give the folder of a published model, or weights '
                'that exist and their config.',
            )
        config = fetch(repo, CONFIG_FILE, revision or given)
        folder = config.parent
        cfg, hashes = _read_config_file(config)
        for name in hashes:  # of the same commit, which names the folder
            fetch(repo, name, folder.name)
    for name, expected in hashes.items():
        path = folder / name
        if not path.is_file():
            raise MissingCheckpointError(
                f'{path} is missing; copy the published model again.',
                file=path,
            )
        if _hash_of(path) != expected:
            raise CheckpointError(
                f'{path} is not the file that {CONFIG_FILE} was published '
                'with (another SHA-256); copy or download both again.',
                file=path,
            )
    if cfg.model.get('text_encoder', {}).get('tokenizer') == TOKENIZER:
        cfg.model.text_encoder.tokenizer = str(folder / TOKENIZER)
    return Release(cfg, folder / WEIGHTS_FILE)


def _read_config_file(path: Path) -> tuple[Config, dict[str, str]]:
    """Read ``config.json``; return the config and the hash of each file."""
    try:
        content = json.loads(path.read_text('utf-8'))
    except ValueError as error:
        raise CheckpointError(
            f'{path} is no JSON ({error}); a published config in another '
            'form is not read, since it could hold code.',
            file=path,
        ) from error
    if not isinstance(content, dict) or content.get('library') != _LIBRARY:
        raise CheckpointError(
            f'{path} is not the config of a model that {_LIBRARY} published.',
            file=path,
        )
    if content.get('format') != _FORMAT:
        raise CheckpointError(
            f'{path} has format {content.get("format")!r}, and this version '
            f'reads {_FORMAT}; install a newer referformer-mm.',
            file=path,
        )
    hashes = content.get('sha256')
    if not isinstance(hashes, dict) or WEIGHTS_FILE not in hashes:
        raise CheckpointError(
            f'{path} does not list {WEIGHTS_FILE} under "sha256".', file=path
        )
    for name in hashes.keys() - _TOKENIZER_FILES - {WEIGHTS_FILE}:
        raise CheckpointError(
            f'{path} lists the file {name!r}, which no published model has, '
            'so nothing was loaded.',
            file=path,
            value=name,
        )
    cfg = from_portable(content.get('config') or {})
    return cfg, hashes


def _hash_of(path: Path) -> str:
    found = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


# -- writing ------------------------------------------------------------------


def publish(
    checkpoint: str | os.PathLike[str],
    out: str | os.PathLike[str],
    config: str | os.PathLike[str] | Config | None = None,
    describe: Callable[[str], Mapping[str, Any]] | None = None,
    name: str | None = None,
    half: bool = False,
    entry: Mapping[str, Any] | None = None,
) -> Path:
    """Write what :func:`open_release` reads.

    Args:
        checkpoint (str | PathLike): Of a training, or weights alone.
        out (str | PathLike): Folder, which must be new or empty.
        config (str | PathLike | Config, optional): Of the model. Defaults to
            None: the one in the checkpoint.
        describe (Callable, optional): Gets the name and returns its entry of
            ``configs/metafile.yml``, for the card.
        name (str, optional): Of the model. Defaults to None: that of the
            config.
        half (bool): Whether to store the weights in float16, in half the
            space. They are loaded as float32.
        entry (Mapping, optional): What is known of these very weights, laid
            out as an entry of ``configs/metafile.yml``; ``describe`` is not
            asked then.

    Returns:
        Path: The folder.

    Raises:
        ConfigError: If there is no config, or it is not portable.
        CheckpointError: If the weights are not those of the config.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f'{out} is not an empty folder; give a new one.')
    content = load_checkpoint_safely(checkpoint)
    meta = content.get('meta') or {}
    if config is not None:
        cfg = read_config(config)
    elif 'cfg' in meta:
        cfg = literal_config(meta['cfg'])
    else:
        raise ConfigError(
            f'{checkpoint} holds no config; give the config of its model.',
            file=checkpoint,
        )
    name = name or _config_name(config, meta) or 'ReferFormer'
    known = entry is not None
    if entry is None:
        entry = describe(name) if describe else {}
    weights = state_dict_of(content)
    if half:
        weights = {
            key: value.half() if value.is_floating_point() else value
            for key, value in weights.items()
        }
    model = _build(cfg)
    require_matching_weights(model, weights, source=str(checkpoint))
    temporary = out.with_name(f'.{out.name}.part')
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        _write(temporary, cfg, model, weights, name)
        card = _card(name, entry, known, _hashes_of(temporary))
        write_atomic(temporary / CARD_FILE, card)
        # the proof that strangers can load it
        release = open_release(temporary)
        require_matching_weights(
            _build(release.cfg),
            state_dict_of(load_checkpoint_safely(release.weights)),
            source=str(release.weights),
        )
        if out.exists():
            out.rmdir()
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return out


def _config_name(
    config: str | os.PathLike[str] | Config | None, meta: Mapping[str, Any]
) -> str | None:
    """Name of a config, as ``configs/metafile.yml`` has it."""
    if isinstance(config, Config):
        config = config.filename
    if config is not None:
        return Path(config).stem
    # mmengine adds the time at which the training began
    experiment = str(meta.get('experiment_name') or '')
    return re.sub(r'_\d{8}_\d{6}$', '', experiment) or None


def _build(cfg: Config) -> ReferFormer:
    with (
        DefaultScope.overwrite_default_scope('referformer'),
        whole_checkpoint_follows(),
    ):
        return MODELS.build(cfg.model)


def _write(
    folder: Path,
    cfg: Config,
    model: ReferFormer,
    weights: Mapping[str, Any],
    name: str,
) -> None:
    """Write the files of a published model, all but the card."""
    from safetensors.torch import save_file

    # copies: parts that share a tensor cannot be written as one
    save_file(
        {
            key: value.detach().clone().contiguous()
            for key, value in weights.items()
        },
        folder / WEIGHTS_FILE,
        metadata={'format': 'pt'},
    )
    cfg = Config(cfg.to_dict())
    _settle_propagator(cfg)
    text = cfg.model.text_encoder
    if hasattr(model.text_encoder, 'describe'):
        text.pop('pretrained', None)
        text.hf_config = model.text_encoder.describe()
        tokenizer = model.text_encoder.tokenizer
        if hasattr(tokenizer, 'save_pretrained'):
            text.tokenizer = TOKENIZER
            tokenizer.save_pretrained(folder / TOKENIZER)
    for path in (folder / TOKENIZER).glob('*'):
        if f'{TOKENIZER}/{path.name}' not in _TOKENIZER_FILES:
            path.unlink()
    files = [folder / WEIGHTS_FILE, *sorted((folder / TOKENIZER).glob('*'))]
    hashes = {str(f.relative_to(folder)): _hash_of(f) for f in files}
    content = dict(
        library=_LIBRARY,
        format=_FORMAT,
        version=__version__,
        name=name,
        sha256=hashes,
        config=to_portable(cfg),
    )
    write_json(folder / CONFIG_FILE, content)


def _hashes_of(folder: Path) -> dict[str, str]:
    """Hash every file of a folder."""
    return {
        str(path.relative_to(folder)): _hash_of(path)
        for path in sorted(folder.rglob('*'))
        if path.is_file()
    }


def _settle_propagator(cfg: Config) -> None:
    """Write the propagator as a dict, or leave it out with a warning."""
    predictor = cfg.model.get('predictor') or {}
    propagator = read_propagator(predictor.get('propagator'))
    if propagator is not None and 'pretrained' in propagator:
        # what is published fetches no other weights
        warnings.warn(
            f'The propagator {propagator["type"]} is not published with the '
            f'model, since it needs the weights {propagator["pretrained"]!r}. '
            'Use --propagate for prediction.',
            stacklevel=2,
        )
        propagator = None
    if 'propagator' in predictor:
        predictor.propagator = propagator


def _card(
    name: str,
    entry: Mapping[str, Any],
    known: bool,
    hashes: Mapping[str, str],
) -> str:
    """Write the model card; ``known``: the results are of these weights."""
    meta = entry.get('Metadata', {})
    lines = [
        '---',
        f'library_name: {_LIBRARY}',
        'pipeline_tag: image-segmentation',
        'tags: [referring-video-object-segmentation, video, referformer-mm]',
        '---',
        '',
        f'# {name}',
        '',
        'Segments the objects of a video that sentences describe: [Language '
        'as Queries for Referring Video Object Segmentation]'
        '(https://arxiv.org/abs/2201.00487), in ReferFormer-MM.',
        '',
        '```python',
        'from referformer.apis import ReferInferencer',
        '',
        "inferencer = ReferInferencer.from_pretrained('OWNER/REPO')",
        "inferencer('dogs.mp4', ['the black dog'], out_dir='out')",
        '```',
        '',
    ]
    for key, value in meta.items():
        value = ', '.join(value) if isinstance(value, list) else value
        lines.append(f'- {key}: {value}')
    lines += [f'- Written by {_LIBRARY} {__version__}', '', '## Results', '']
    rows = [
        f'| {result["Dataset"]} | {metric} | {value} | {result["Protocol"]} '
        f'| {_origin(result)} |'
        for result in entry.get('Results', [])
        for metric, value in result['Metrics'].items()
    ]
    if rows:
        origin = 'Of these weights.'
        if not known:
            origin = (
                f'Recorded for the config `{entry["Name"]}`; these weights '
                'were not scored when they were published.'
            )
        lines += [
            origin,
            '',
            '| Dataset | Metric | Value | Protocol | Source |',
            '| --- | --- | --- | --- | --- |',
            *rows,
        ]
    else:
        lines.append('None are recorded.')
    lines += ['', '## SHA-256', '', '| File | Hash |', '| --- | --- |']
    lines += [f'| `{file}` | `{value}` |' for file, value in hashes.items()]
    return '\n'.join([*lines, ''])


def _origin(result: Mapping[str, Any]) -> str:
    """Say where a number is from."""
    if result['Source'] == 'measured':
        return f'measured by {result["Measured By"]}'
    return "published by the paper's authors"
