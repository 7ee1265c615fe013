# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""What the commands that score COCO results have in common."""

import argparse
import time
from collections.abc import Callable, Mapping
from typing import Any

from referformer.errors import DataError
from referformer.evaluation.functional.commands.common import add_paths

Scores = dict[str, Any]
"""Fractions by name, and ``protocol``: what was scored, and how."""


def add_result_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the files, and how the predictions are to be read."""
    add_paths(
        parser,
        'ground truth in COCO form, one image entry a sentence',
        'COCO results: a list of {image_id, score, segmentation, bbox}',
        metavar='FILE.json',
    )
    parser.add_argument(
        '--missing',
        choices=('error', 'empty'),
        default='error',
        help='sentences without any prediction: refuse to score, or count '
        'them as empty masks (default: %(default)s)',
    )
    parser.add_argument(
        '--box-format',
        choices=('xyxy', 'xywh'),
        default='xyxy',
        help='what the predicted "bbox" holds: two corners, or a corner and '
        'width and height (default: %(default)s)',
    )


def add_queries(parser: argparse.ArgumentParser) -> None:
    """Add the choice of what AP ranks."""
    parser.add_argument(
        '--queries',
        choices=('all', 'best'),
        default='all',
        help='predictions that mAP ranks: all of a sentence, as published, '
        'or the best one, which gives lower numbers (default: %(default)s)',
    )


def score_results(
    args: argparse.Namespace,
    title: str,
    measure: Callable[[Mapping, Mapping], dict[str, float]],
    **protocol: str,
) -> Scores:
    """Read the files, score them, and say what was done.

    Args:
        args (argparse.Namespace): With the arguments added above.
        title (str): What is scored.
        measure (Callable): Takes truths and candidates, returns fractions.
        **protocol (str): Switches to name in the result besides those of
            :func:`add_result_arguments`.

    Returns:
        Scores: The fractions, and ``protocol``.

    Raises:
        DataError: If a file is unusable.
    """
    from referformer.evaluation.functional.segm import has_boxes, has_masks
    from referformer.formats.coco import read_candidates, read_truths

    begin = time.monotonic()
    truths = read_truths(args.gt)
    found = read_candidates(args.pred, truths, args.box_format, args.missing)
    ranks_masks = 'queries' in protocol
    if ranks_masks and not has_masks(found):
        raise DataError(
            f'{args.pred} has no "segmentation", but {title} is about masks.'
        )
    protocol = {'name': title, **protocol, 'missing': args.missing}
    if has_boxes(found):
        protocol['box_format'] = args.box_format
        if ranks_masks:
            # Where AP of small, medium and large objects takes sizes from.
            protocol['predicted_area'] = 'bbox'
    scores: Scores = measure(truths, found)
    number = sum(map(len, found.values()))
    unpredicted = sum(not candidates for candidates in found.values())
    scores['protocol'] = {
        **protocol,
        'num_sentences': len(truths),
        'num_predictions': number,
        'num_unpredicted': unpredicted,
    }
    said = ', '.join(f'{k} = {v}' for k, v in protocol.items() if k != 'name')
    print(f'{title}, {said}')
    print(
        f'{len(truths)} sentences ({unpredicted} without prediction), '
        f'{number} predictions, {time.monotonic() - begin:.1f} s'
    )
    return scores


def format_scores(scores: Scores) -> str:
    """The scores in percent, one a line."""
    lines = []
    for name, value in scores.items():
        if name == 'protocol':
            continue
        # -1: COCO's word for no object of that size.
        text = '   none' if value < 0 else f'{100 * value:7.2f}'
        lines.append(f'{name:16} {text}')
    return '\n'.join(lines)
