# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""``mevis``, ``revos``, ``ref-sav``, ``long-rvos`` of ``tools/eval_masks.py``.

Their ground truth is one mask per object and frame, not a label map: an
expression may mean several objects, which may overlap, or none.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from referformer.errors import DataError, MissingDataError
from referformer.evaluation.functional.commands.common import (
    Scores,
    add_command,
)
from referformer.evaluation.functional.commands.expressions import (
    PRED_HELP,
    add_scoring_options,
    read_targets,
    score_clips,
    table_of,
)
from referformer.utils.console import shorten

if TYPE_CHECKING:
    from referformer.evaluation.functional.expression_masks import (
        FolderTruth,
        TableTruth,
        VideoTargets,
    )
    from referformer.formats.expressions import VideoEntry


class MaskSet(NamedTuple):
    """A set whose ground truth is masks of objects.

    Attributes:
        title: Its name.
        expressions: Names that its expressions file has in ``--gt``.
        masks: Its masks there: a table, or a folder of folders.
        folder: What ``--gt`` is, for the help.
        attribute: Set whose field holds the attribute of an expression.
    """

    title: str
    expressions: tuple[str, ...]
    masks: str
    folder: str
    attribute: str = ''


SETS = {
    'mevis': MaskSet(
        'MeViS',
        ('meta_expressions.json', 'meta_expressions_v2.json'),
        'mask_dict.json',
        'folder of a split, as data/mevis/valid_u',
    ),
    'revos': MaskSet(
        'ReVOS',
        ('meta_expressions_valid_.json',),
        'mask_dict.json',
        'folder of the data set',
        'revos',
    ),
    'ref-sav': MaskSet(
        'Ref-SAV',
        ('meta_expressions_valid.json',),
        'mask_dict.json',
        'folder of the evaluation set, as data/ref_sav/ref_sav_eval',
        'ref-sav',
    ),
    'long-rvos': MaskSet(
        'Long-RVOS',
        ('meta_expressions.json',),
        'Annotations',
        'folder of a split, as data/long_rvos/valid',
        'long-rvos',
    ),
}


def add_commands(commands: Any) -> None:
    """Add the commands to the subparsers of argparse."""
    for name, kind in SETS.items():
        parser = add_command(
            commands,
            name,
            f'J and F of {kind.title}, from masks of expressions',
            'Score each expression on all frames of its video against the '
            'union of the objects it means (maybe none), and average over '
            'expressions.',
            partial(_run, kind=kind),
            table_of,
            f'{kind.folder}, with {kind.expressions[0]} and {kind.masks}',
            PRED_HELP,
        )
        add_scoring_options(parser)
        parser.add_argument(
            '--expressions',
            type=Path,
            metavar='FILE',
            help='expressions to score (default: '
            f'{" or ".join(f"<gt>/{name}" for name in kind.expressions)})',
        )


def _run(args: argparse.Namespace, kind: MaskSet) -> Scores:
    from referformer.formats.attributes import FIELDS
    from referformer.formats.expressions import read_expressions

    path = args.expressions or _find_expressions(args.gt, kind)
    in_table = kind.masks.endswith('.json')
    videos = read_expressions(
        path, positional=in_table, attribute=FIELDS.get(kind.attribute)
    )
    open_truth = _open_table if in_table else _open_folders
    clips, truth = open_truth(args.gt / kind.masks, path, videos)
    return score_clips(args, f'{kind.title}, per expression', clips, truth)


def _find_expressions(folder: Path, kind: MaskSet) -> Path:
    """Return the expressions file of a set, which may have two names."""
    paths = [folder / name for name in kind.expressions]
    there = [path for path in paths if path.is_file()]
    if len(there) > 1:
        raise DataError(
            f'{folder} has expressions of two editions, '
            f'{" and ".join(path.name for path in there)}',
            file=folder,
            remedy='name those to score by --expressions.',
        )
    return (there or paths)[0]


def _open_table(
    path: Path, meta: Path, videos: dict[str, 'VideoEntry']
) -> tuple[list['VideoTargets'], 'TableTruth']:
    """Open ``mask_dict.json`` and check that it is about these videos."""
    from referformer.evaluation.functional.expression_masks import TableTruth
    from referformer.formats.mask_dict import open_mask_table

    clips = read_targets(meta, videos, _read_annotations)
    # Now, so that processes forked later find it there.
    table = open_mask_table(path)
    for clip in clips:
        for name in {a for t in clip.targets.values() for a in t}:
            length = len(table[name]) if name in table else 0
            if length != len(clip.frames):
                raise DataError(
                    f'{path} has {length} masks of annotation {name} but '
                    f'{clip.video} has {len(clip.frames)} frames; the file '
                    f'and {meta.name} belong to different splits.',
                    file=path,
                )
    return clips, TableTruth(path)


def _open_folders(
    path: Path, meta: Path, videos: dict[str, 'VideoEntry']
) -> tuple[list['VideoTargets'], 'FolderTruth']:
    """Check that there is a folder of masks for each object."""
    from referformer.evaluation.functional.expression_masks import FolderTruth

    clips = read_targets(meta, videos, _read_object)
    names = {
        f'{clip.video}/{name}'
        for clip in clips
        for name in clip.targets.values()
    }
    # A missing file is an empty mask, so a missing folder would go unnoticed.
    lost = sorted(name for name in names if not (path / name).is_dir())
    if lost:
        raise MissingDataError(
            f'{path} lacks the masks of {len(lost)} of {len(names)} objects: '
            f'{shorten(lost)}',
            file=path,
            remedy='extract the archive completely.',
        )
    return clips, FolderTruth(path)


def _read_annotations(expression: dict) -> tuple[str, ...]:
    """Names of the annotations that an expression means, sorted."""
    ids = expression.get('anno_id')
    if not isinstance(ids, list) or any(type(i) is not int for i in ids):
        raise ValueError(
            f'anno_id {ids!r}; expected a list of numbers (the split "valid" '
            'of MeViS has none: its ground truth is not public)'
        )
    return tuple(str(i) for i in sorted(set(ids)))


def _read_object(expression: dict) -> str:
    """Name of the folder of masks of the object an expression means."""
    from referformer.formats.frames import is_plain_name

    obj_id = expression.get('obj_id')
    if type(obj_id) not in (int, str) or not is_plain_name(str(obj_id)):
        raise ValueError(f'obj_id {obj_id!r}, which is no name of a folder')
    return str(obj_id)
