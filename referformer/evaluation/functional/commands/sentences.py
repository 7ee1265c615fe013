# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""``eval_masks.py a2d``, ``jhmdb``, ``refcoco``: one frame a sentence."""

import argparse
import time
from functools import partial

from referformer.errors import DataError
from referformer.evaluation.functional.commands.common import (
    Command,
    Scores,
    add_choice,
    add_paths,
    print_protocol,
)
from referformer.utils.console import warn


def _add_arguments(parser: argparse.ArgumentParser, ranked: bool) -> None:
    """Add the files and how to read them; if AP is measured, what it ranks."""
    add_paths(
        parser,
        'ground truth in COCO form, one image entry a sentence',
        'COCO results: a list of {image_id, score, segmentation, bbox}',
        metavar='FILE.json',
    )
    add_choice(
        parser,
        '--missing',
        'error empty',
        'sentences without any prediction: refuse to score, or count them as '
        'empty masks',
    )
    add_choice(
        parser,
        '--box-format',
        'xyxy xywh',
        'what the predicted "bbox" holds: two corners, or a corner and width '
        'and height',
    )
    if ranked:
        add_choice(
            parser,
            '--queries',
            'all best',
            'predictions that mAP ranks: all of a sentence, as published, or '
            'the best one, which gives lower numbers',
        )


def _run(args: argparse.Namespace, title: str, ranked: bool) -> Scores:
    from referformer.evaluation.functional.segm import (
        expression_scores,
        has_boxes,
        has_masks,
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
    if not ranked:
        scores = expression_scores(truths, found)
    elif has_masks(found):
        if args.queries == 'all' and max(map(len, found.values())) < 2:
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
    number = sum(map(len, found.values()))
    unpredicted = sum(not candidates for candidates in found.values())
    print_protocol(
        title,
        switches,
        f'{len(truths)} sentences ({unpredicted} without prediction), '
        f'{number} predictions',
        begin,
    )
    protocol = {
        'name': title,
        **switches,
        **({} if choice is None else {'published_frames': choice.published}),
        'num_sentences': len(truths),
        'num_predictions': number,
        'num_unpredicted': unpredicted,
    }
    return {**scores, 'protocol': protocol}


def _table(scores: Scores) -> str:
    lines = []
    for name, value in scores.items():
        if name == 'protocol':
            continue
        # -1 is COCO's word for no object of that size.
        text = '   none' if value < 0 else f'{100 * value:7.2f}'
        lines.append(f'{name:16} {text}')
    return '\n'.join(lines)


def _command(
    name: str, title: str, summary: str, description: str, ranked: bool
) -> Command:
    """A command for one family of sets.

    Args:
        name (str): Name of the command.
        title (str): Name of the set.
        summary (str): What is scored, in a few words.
        description (str): The same in some more words.
        ranked (bool): Whether AP is measured, else REC and RIS.
    """
    return Command(
        name,
        f'{summary} of {title}, from COCO results',
        description,
        partial(_add_arguments, ranked=ranked),
        partial(_run, title=title, ranked=ranked),
        _table,
    )


_AP = (
    'Score one mask a sentence by AP, P@K (IoU above K), overall and mean '
    'IoU; boxes likewise (without AP) if the predictions have them.'
)
_REC = (
    'Score the best box (REC: P@0.5 by IoU > 0.5 and by GIoU >= 0.5) and the '
    'best mask (RIS: overall and mean IoU, P@K) of each sentence of one '
    'split. Predictions may have boxes, masks or both.'
)

COMMANDS = (
    _command('a2d', 'A2D-Sentences', 'mAP, P@K and IoU', _AP, True),
    _command('jhmdb', 'JHMDB-Sentences', 'mAP, P@K and IoU', _AP, True),
    _command('refcoco', 'RefCOCO/+/g', 'REC and RIS', _REC, False),
)
