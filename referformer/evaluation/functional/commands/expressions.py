# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""What the commands that score masks of expressions have in common."""

import argparse
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from referformer.errors import DataError
from referformer.evaluation.functional.commands.common import (
    add_jobs,
    add_paths,
)

if TYPE_CHECKING:
    from referformer.evaluation.functional.expression_scores import (
        Clip,
        LabelTruth,
        Truth,
    )

PRED_HELP = (
    'folder with <video>/<expression>/<frame>.png (0 = background, 1 or 255 = '
    'object), maybe below Annotations/, or a zip file of that'
)


def add_expression_arguments(
    parser: argparse.ArgumentParser, gt_help: str, unannotated: bool = True
) -> None:
    """Add the files, and what to make of those that are missing.

    Args:
        parser (argparse.ArgumentParser): Parser of the command.
        gt_help (str): What the ground truth is.
        unannotated (bool): Whether frames can be without ground truth.
    """
    add_paths(parser, gt_help, PRED_HELP)
    parser.add_argument(
        '--missing',
        choices=('error', 'zero'),
        default='error',
        help='masks that are not in --pred: refuse to score, or count J = F '
        '= 0 (default: %(default)s)',
    )
    if unannotated:
        parser.add_argument(
            '--unannotated',
            choices=('error', 'skip'),
            default='error',
            help='frames without ground truth: refuse to score, or leave them '
            'out (default: %(default)s)',
        )
    add_jobs(parser)


def label_clips(path: Path, excluded: Iterable[str] = ()) -> list['Clip']:
    """Read the expressions of label maps, which name one object each.

    Args:
        path (Path): The ``meta_expressions.json``, with ``obj_id``.
        excluded (Iterable[str]): Videos to leave out.

    Returns:
        list[Clip]: Targets are ids (int).

    Raises:
        DataError: If the file is unusable or does not name an object.
    """
    from referformer.evaluation.functional.expression_scores import Clip
    from referformer.formats.expressions import read_expressions
    from referformer.formats.label_maps import shorten

    videos = read_expressions(path)
    for video in excluded:
        videos.pop(video, None)
    nameless = [
        f'{video}/{name}'
        for video, entry in videos.items()
        for name, expression in entry['expressions'].items()
        if 'obj_id' not in expression
    ]
    if nameless:
        raise DataError(
            f'{path} does not say which object (obj_id) {len(nameless)} '
            f'expressions mean: {shorten(nameless)}; give the file released '
            'with the ground truth by --expressions.'
        )
    return [
        Clip(
            video,
            tuple(entry['frames']),
            {
                name: _object_id(path, f'{video}/{name}', expression['obj_id'])
                for name, expression in entry['expressions'].items()
            },
        )
        for video, entry in videos.items()
    ]


def label_truth(root: Path) -> 'LabelTruth':
    """Ground truth in label maps.

    Raises:
        DataError: If there is no such folder.
    """
    from referformer.evaluation.functional.expression_scores import LabelTruth

    if not root.is_dir():
        raise DataError(
            f'{root} is not a folder; it should hold the true label maps '
            '<video>/<frame>.png. Give their place by --masks.'
        )
    return LabelTruth(root)


def _object_id(path: Path, name: str, value: Any) -> int:
    """An id as a number, or an error that names the expression."""
    if isinstance(value, int | str) and str(value).isdecimal():
        number = int(value)
        if 0 < number < 255:
            return number
    raise DataError(
        f'{path}: {name} has obj_id {value!r}; expected a number from 1 to '
        '254, the id in the label maps.'
    )


def score(
    args: argparse.Namespace,
    title: str,
    clips: list['Clip'],
    truth: 'Truth',
) -> dict[str, Any]:
    """Score masks of expressions and say what was done.

    Args:
        args (argparse.Namespace): With the arguments added above.
        title (str): What is scored, and how.
        clips (list[Clip]): The expressions.
        truth (Truth): The ground truth.

    Returns:
        dict: The fractions, ``protocol`` and ``per_expression``.

    Raises:
        DataError: If a file is unusable.
    """
    from referformer.evaluation.functional.expression_scores import (
        score_expressions,
        summarize_expressions,
    )
    from referformer.formats.predictions import open_mask_tree

    begin = time.monotonic()
    switches = {'matching': 'none', 'missing': args.missing}
    if 'unannotated' in args:
        switches['unannotated'] = args.unannotated
    found = score_expressions(
        clips,
        truth,
        open_mask_tree(args.pred),
        missing=args.missing,
        unannotated=switches.get('unannotated', 'error'),
        jobs=args.jobs,
    )
    scores = summarize_expressions(found.expressions)
    counts = {
        'num_videos': len({video for video, _ in found.expressions}),
        'num_expressions': len(found.expressions),
        'num_masks': sum(len(s.j) for s in found.expressions.values()),
        'num_missing': found.num_missing,
        'num_unannotated_frames': found.num_unannotated,
    }
    said = ', '.join(f'{key} = {value}' for key, value in switches.items())
    print(f'{title}, {said}')
    print(
        '{num_videos} videos, {num_expressions} expressions, {num_masks} '
        'masks ({num_missing} missing)'.format_map(counts)
        + f', {time.monotonic() - begin:.1f} s'
    )
    per_expression = scores.pop('per_expression')
    return {
        **scores,
        'protocol': {'name': title, **switches, **counts},
        'per_expression': per_expression,
    }


def format_rows(rows: Mapping[str, Mapping[str, float]]) -> str:
    """J&F, J and F in percent, one row each."""
    width = max(map(len, rows))
    lines = [f'{"":{width}}    J&F      J      F']
    for name, row in rows.items():
        j_and_f, j, f = (100 * row[key] for key in ('J&F', 'J', 'F'))
        lines.append(f'{name:{width}} {j_and_f:6.2f} {j:6.2f} {f:6.2f}')
    return '\n'.join(lines)


def table(scores: Mapping[str, Any]) -> str:
    """The scores in percent, for people."""
    return format_rows({'mean': scores})
