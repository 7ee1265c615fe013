# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The known data sets: their splits where the documentation puts them.

A split is a dataset of the standard config, with other files. So there is no
second description of a set.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config

from referformer.datasets.doctor.report import Report
from referformer.formats.refcoco import NUM_SENTENCES

#: Second file of expressions, which names the objects: as the documentation
#: calls it, and as others do.
_WITH_OBJECTS = ('with_obj_id', 'meta_expressions_gt')


class Source(NamedTuple):
    """A dataset that a config describes.

    Attributes:
        split: Name of the split, or of the dataloader.
        config: The config of the dataset.
        full: Size of the full split, if that should be compared.
    """

    split: str
    config: Mapping[str, Any]
    full: int | None = None


class Kind(NamedTuple):
    """A known data set.

    Attributes:
        title: Its name.
        datasets: The classes that read it.
        full: Split -> its size, None if unknown.
        files: Takes the folder of the set and the name of a split; returns the
            arguments of the dataset that differ from the config.
        download: What is there before the conversion.
    """

    title: str
    datasets: tuple[str, ...]
    full: dict[str, int | None]
    files: Callable[[Path, str], dict[str, Any]] = lambda root, name: {}
    download: tuple[str, ...] = ()


def _if_there(root: Path, *paths: str) -> str | None:
    """Return the first of some files or folders that exists."""
    return next((path for path in paths if (root / path).exists()), None)


def _ref_youtube_vos(root: Path, name: str) -> dict[str, Any]:
    """Ref-YouTube-VOS, and its layout."""
    folder, masks = f'meta_expressions/{name}', f'{name}/Annotations'
    files: dict[str, Any] = {
        'ann_file': f'{folder}/meta_expressions.json',
        'data_prefix': {'img': f'{name}/JPEGImages', 'mask': masks},
        'expected_videos': None,
    }
    if name != 'train':
        files['data_prefix']['mask'] = _if_there(root, masks)
        truth = [f'{folder}/{file}.json' for file in _WITH_OBJECTS]
        files['obj_id_file'] = _if_there(root, *truth)
    if name == 'test':
        files['exclude_ann_file'] = None
    return files


def _davis(root: Path, name: str) -> dict[str, Any]:
    files = _ref_youtube_vos(root, name)
    files['data_prefix']['mask'] = f'{name}/Annotations'
    # comes from a third archive, which nothing here needs
    files['meta_file'] = _if_there(root, f'{name}/meta.json')
    return files


def _mevis(root: Path, name: str) -> dict[str, Any]:
    masks: str | None = f'{name}/mask_dict.json'
    if name == 'valid':
        masks = _if_there(root, masks)
    return {
        'ann_file': f'{name}/meta_expressions.json',
        'img_dir': f'{name}/JPEGImages',
        'mask_file': masks,
    }


def _mevis_v2(root: Path, name: str) -> dict[str, Any]:
    files = _mevis(root, name)
    named = f'{name}/meta_expressions_v2.json'
    # the file of valid, which has no ground truth, is also called so
    other = f'{name}/meta_expressions_v2_release.json'
    files['ann_file'] = _if_there(root, named, other) or named
    return files


def _revos(root: Path, name: str) -> dict[str, Any]:
    return {'ann_file': f'meta_expressions_{name}_.json'}


def _long_rvos(root: Path, name: str) -> dict[str, Any]:
    masks = f'{name}/Annotations'
    prefix = {'img': f'{name}/JPEGImages'}
    if name != 'test' or (root / masks).is_dir():
        prefix['mask'] = masks
    return {
        'ann_file': f'{name}/meta_expressions.json',
        'data_prefix': prefix,
    }


def _refcoco(root: Path, name: str) -> dict[str, Any]:
    folder = name.rpartition('_')[0].removesuffix('-google')
    return {'ann_file': [f'{folder}/instances_{name}.json']}


KINDS = {
    'ref-youtube-vos': Kind(
        'Ref-YouTube-VOS',
        ('RefYouTubeVOSDataset',),
        {'train': 3471, 'valid': 202, 'test': 305},
        _ref_youtube_vos,
    ),
    'ref-davis': Kind(
        'Ref-DAVIS17',
        ('RefDAVISDataset',),
        {'train': 60, 'valid': 30},
        _davis,
        ('DAVIS', 'davis_text_annotations', 'JPEGImages/480p'),
    ),
    'a2d': Kind(
        'A2D-Sentences',
        ('A2DSentencesDataset',),
        {'train': None, 'test': None},
        download=('text_annotations/a2d_annotation.txt',),
    ),
    'jhmdb': Kind(
        'JHMDB-Sentences',
        ('JHMDBSentencesDataset',),
        {'test': 928},
        download=('jhmdb_annotation.txt',),
    ),
    'refcoco': Kind(
        'RefCOCO, RefCOCO+ and RefCOCOg',
        ('RefCOCODataset',),
        NUM_SENTENCES,
        _refcoco,
        ('ref*/refs(*).p',),
    ),
    'mevis': Kind(
        'MeViS',
        ('MeViSDataset',),
        {'train': 1662, 'valid_u': 50, 'valid': 140},
        _mevis,
    ),
    'mevis-v2': Kind(
        'MeViS, second edition',
        ('MeViSDataset',),
        {'train': 1662, 'valid_u': 50, 'valid': 140},
        _mevis_v2,
    ),
    'revos': Kind(
        'ReVOS',
        ('ReVOSDataset',),
        {'train': 626, 'valid': 416},
        _revos,
    ),
    'long-rvos': Kind(
        'Long-RVOS',
        ('LongRVOSDataset',),
        {'train': 1855, 'valid': 112, 'test': 226},
        _long_rvos,
    ),
    'ref-sav': Kind(
        'Ref-SAV',
        ('RefSAVDataset', 'RefSAVEvalDataset'),
        {'train': None, 'valid': None},
    ),
}


def list_sources(
    kind: Kind,
    config: Config,
    root: Path,
    names: Sequence[str] | None,
    report: Report,
) -> list[Source]:
    """List the splits of a known set.

    Args:
        kind: The set.
        config: Its standard config.
        root: Its folder.
        names: Splits to check; None for all that are there.
        report: Where to note which are not.
    """
    there, absent = [], []
    for name in kind.full if names is None else names:
        source = _describe_split(kind, config, root, name)
        files = source.config['ann_file']
        path = root / (files if isinstance(files, str) else files[0])
        # The expressions of all splits come in one archive, and not
        # everybody needs the frames of all.
        frames = _find_frames(source, root)
        if path.is_file() and (names or frames.parent.is_dir()):
            there.append(source)
        else:
            absent.append((name, frames if path.is_file() else path))
    found = (path for name in kind.download for path in root.glob(name))
    download = next(found, None)
    for name, path in absent:
        if names is None and there:
            report.add('split-absent', path, name)
        elif download is not None:
            text = f'{path.relative_to(root)} is missing'
            report.add('not-converted', download, text)
        else:
            report.add('split-missing', path, name)
    return there


def _describe_split(
    kind: Kind, config: Config, root: Path, name: str
) -> Source:
    """Return the standard dataset with the files of a split."""
    train = name == 'train' or name.endswith('_train')
    loader = config.get('train_dataloader') if train else None
    dataset = (loader or config.test_dataloader).dataset.to_dict()
    dataset.update(kind.files(root, name))
    dataset.update(data_root=f'{root}/', test_mode=not train)
    if train:
        dataset.pop('group_by_video', None)
    return Source(name, dataset, kind.full[name])


def _find_frames(source: Source, root: Path) -> Path:
    """Folder of the frames of a split."""
    prefix = source.config.get('data_prefix') or {}
    frames = source.config.get('img_dir') or prefix.get('img', 'frames')
    return root / frames
