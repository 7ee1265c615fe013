# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""``eval_masks.py refcoco``: RefCOCO, RefCOCO+ and RefCOCOg."""

import argparse

from referformer.evaluation.functional.commands.sentences import (
    Scores,
    add_result_arguments,
    format_scores,
    score_results,
)

NAME = 'refcoco'
HELP = 'REC and RIS of RefCOCO, RefCOCO+ and RefCOCOg, from COCO results'
DESCRIPTION = (
    'Score the best box (REC: P@0.5 by IoU > 0.5 and by GIoU >= 0.5) and the '
    'best mask (RIS: overall and mean IoU, P@K) of each sentence of one '
    'split. Predictions may have boxes, masks or both.'
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_result_arguments(parser)


def run(args: argparse.Namespace) -> Scores:
    """Score.

    Raises:
        DataError: If a file is unusable.
    """
    from referformer.evaluation.functional.segm import expression_scores

    return score_results(args, 'RefCOCO/+/g', expression_scores)


def table(scores: Scores) -> str:
    """The scores in percent, for people."""
    return format_scores(scores)
