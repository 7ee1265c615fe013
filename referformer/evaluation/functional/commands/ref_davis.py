# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""``eval_masks.py ref-davis``: Ref-DAVIS17, by either protocol."""

import argparse
import time
from pathlib import Path
from typing import Any

from referformer.errors import DataError
from referformer.evaluation.functional.commands.expressions import (
    PRED_HELP,
    add_expression_arguments,
    format_rows,
    label_clips,
    label_truth,
    score,
)
from referformer.utils.console import warn

NAME = 'ref-davis'
HELP = 'J and F of Ref-DAVIS17, by either protocol in use'
DESCRIPTION = (
    'Score Ref-DAVIS17, each object of which four annotators describe. The '
    'two protocols give different numbers; papers rarely say which is theirs.'
)
NUM_ANNOTATORS = 4
_NUM_VIDEOS = 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        '--protocol',
        choices=('published', 'per-expression'),
        required=True,
        help='published (ReferFormer and its family): --pred has label maps '
        'anno_<0..3>/<video>/<frame>.png, which the DAVIS unsupervised '
        'measure matches with the objects, void (255) not scored, mean of '
        f'four; per-expression (MeViS and its family): --pred is a {PRED_HELP}'
        ', each scored on its own, void is background',
    )
    add_expression_arguments(
        parser, 'folder of the data set, converted to Ref-YouTube-VOS form'
    )
    parser.add_argument(
        '--expressions',
        type=Path,
        metavar='FILE',
        help='per-expression: expressions to score (default: '
        '<gt>/meta_expressions/valid/meta_expressions.json)',
    )
    parser.add_argument(
        '--masks',
        type=Path,
        metavar='DIR',
        help='true label maps, of the unsupervised edition (default: '
        '<gt>/valid/Annotations)',
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Score.

    Raises:
        DataError: If a file is unusable.
    """
    masks = args.masks or args.gt / 'valid/Annotations'
    if args.protocol == 'published':
        scores, num_videos = _run_published(args, masks)
    else:
        scores, num_videos = _run_per_expression(args, masks)
    if num_videos != _NUM_VIDEOS:
        warn(
            f'{num_videos} videos were scored; Ref-DAVIS17 valid has '
            f'{_NUM_VIDEOS}, so the score is not comparable to published ones.'
        )
    return scores


def _run_published(
    args: argparse.Namespace, masks: Path
) -> tuple[dict[str, Any], int]:
    """Score label maps of four annotators, and count the videos."""
    from referformer.evaluation.functional.label_folder import (
        score_label_folders,
    )
    from referformer.evaluation.functional.ref_davis import (
        annotator_folders,
        summarize_annotators,
    )

    if (args.missing, args.unannotated) != ('error', 'error'):
        raise DataError(
            'The published protocol scores complete label maps of annotated '
            'frames only; leave --missing and --unannotated alone, or take '
            '--protocol per-expression.'
        )
    begin = time.monotonic()
    folders = annotator_folders(args.pred)
    found = score_label_folders(masks, folders, 'unsupervised', args.jobs)
    try:
        scores = summarize_annotators([entry.videos for entry in found])
    except ValueError as error:
        raise DataError(f'{masks}: {error}') from None
    title = 'Ref-DAVIS17, published protocol'
    switches = {'matching': 'unsupervised', 'void': 'ignored'}
    per_annotator = scores.pop('per_annotator')
    counts = {
        'num_videos': len(found[0].videos),
        'num_objects': len(per_annotator['anno_0']['per_object']),
        'num_frames': found[0].num_frames,
    }
    said = ', '.join(f'{key} = {value}' for key, value in switches.items())
    print(f'{title}, {said}, mean of {NUM_ANNOTATORS} annotators')
    print(
        '{num_videos} videos, {num_objects} objects, {num_frames} frames, '
        'each four times'.format_map(counts)
        + f', {time.monotonic() - begin:.1f} s'
    )
    scores = {
        **scores,
        'protocol': {'name': title, **switches, **counts},
        'per_annotator': per_annotator,
    }
    return scores, len(found[0].videos)


def _run_per_expression(
    args: argparse.Namespace, masks: Path
) -> tuple[dict[str, Any], int]:
    """Score masks of expressions, and count the videos."""
    from referformer.evaluation.functional.ref_davis import split_annotators

    path = (
        args.expressions
        or args.gt / 'meta_expressions/valid/meta_expressions.json'
    )
    clips = label_clips(path)
    title = 'Ref-DAVIS17, per expression'
    scores = score(args, title, clips, label_truth(masks))
    per_expression = scores.pop('per_expression')
    scores = {
        **scores,
        'per_annotator': split_annotators(per_expression),
        'per_expression': per_expression,
    }
    return scores, len(clips)


def table(scores: dict[str, Any]) -> str:
    """The scores in percent, for people."""
    return format_rows({**scores['per_annotator'], 'mean': scores})
