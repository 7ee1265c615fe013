# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""``eval_masks.py a2d``, ``jhmdb``, ``refcoco``: one frame a sentence."""

import argparse
import time
from functools import partial
from typing import Any

from referformer.errors import DataError
from referformer.evaluation.functional.commands.common import (
    Scores,
    add_choice,
    add_command,
    note_protocol,
)
from referformer.utils.console import warn

_AP = (
    'Score one mask a sentence by AP, P@K (IoU above K), overall and mean '
    'IoU; boxes likewise (without AP) if the predictions have them.'
)
_REC = (
    'Score the best box (REC: P@0.5 by IoU > 0.5 and by GIoU >= 0.5) and the '
    'best mask (RIS: overall and mean IoU, P@K) of each sentence of one '
    'split. Predictions may have boxes, masks or both.'
)


def add_commands(commands: Any) -> None:
    """Add the commands to the subparsers of argparse."""
    for name, title, summary, description in (
        ('a2d', 'A2D-Sentences', 'mAP, P@K and IoU', _AP),
        ('jhmdb', 'JHMDB-Sentences', 'mAP, P@K and IoU', _AP),
        ('refcoco', 'RefCOCO/+/g', 'REC and RIS', _REC),
    ):
        ranked = description is _AP
        parser = add_command(
            commands,
            name,
            f'{summary} of {title}, from COCO results',
            description,
            partial(_run, title=title, ranked=ranked),
            _table,
            'ground truth in COCO form, one image entry a sentence',
            'COCO results: a JSON list, or JSON lines, of {image_id, score, '
            'segmentation, bbox}',
            'FILE.json',
        )
        add_choice(
            parser,
            '--missing',
            'error empty',
            'sentences without any prediction: refuse to score, or count '
            'them as empty masks',
        )
        add_choice(
            parser,
            '--box-format',
            'xyxy xywh',
            'what the predicted "bbox" holds: two corners, or a corner and '
            'width and height',
        )
        if ranked:
            add_choice(
                parser,
                '--queries',
                'all best',
                'predictions that mAP ranks: all of a sentence, as published, '
                'or the best one, which gives lower numbers',
            )


def _run(args: argparse.Namespace, title: str, ranked: bool) -> Scores:
    from referformer.evaluation.functional.segm import (
        expression_scores,
        has_boxes,
        has_masks,
        scores_of_each,
        sentence_scores,
    )
    from referformer.formats.coco import read_candidates, read_truths
    from referformer.formats.jhmdb import identify_frames

    begin = time.monotonic()
    truths = read_truths(args.gt)
    choice = identify_frames(truths) if 'JHMDB' in title else None
    if choice is not None and not choice.published:
        warn(f'{args.gt}: {choice.text}')
    found = read_candidates(args.pred, truths, args.box_format, args.missing)
    switches = {'queries': args.queries} if ranked else {}
    switches['missing'] = args.missing
    if has_boxes(found):
        switches['box_format'] = args.box_format
        if ranked:
            # Where AP of small, medium and large objects takes sizes from.
            switches['predicted_area'] = 'bbox'
    numbers = [len(candidates) for candidates in found.values()]
    if not ranked:
        scores = expression_scores(truths, found)
    elif has_masks(found):
        if args.queries == 'all' and max(numbers) < 2:
            warn(
                f'{args.pred} has no more than one prediction a sentence, so '
                'mAP ranks the best ones only; published scores rank all '
                'queries and are some three points higher.'
            )
        scores = sentence_scores(truths, found, args.queries)
    else:
        raise DataError(
            f'{args.pred} has no "segmentation", but {title} is about masks.',
            file=args.pred,
        )
    counts = {
        **({} if choice is None else {'published_frames': choice.published}),
        'num_sentences': len(truths),
        'num_predictions': sum(numbers),
        'num_unpredicted': numbers.count(0),
    }
    text = (
        '{num_sentences} sentences ({num_unpredicted} without prediction), '
        '{num_predictions} predictions'
    )
    protocol = note_protocol(title, switches, counts, text, begin)
    each = scores_of_each(truths, found)
    return {**scores, 'protocol': protocol, 'per_expression': each}


def _table(scores: Scores) -> str:
    lines = []
    for name, value in scores.items():
        if name not in ('protocol', 'per_expression'):
            # -1 is COCO's word for no object of that size.
            text = '   none' if value < 0 else f'{100 * value:7.2f}'
            lines.append(f'{name:16} {text}')
    return '\n'.join(lines)
