# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""``eval_masks.py jhmdb``: JHMDB-Sentences."""

import argparse
from functools import partial

from referformer.evaluation.functional.commands.sentences import (
    Scores,
    add_queries,
    add_result_arguments,
    format_scores,
    score_results,
)

NAME = 'jhmdb'
HELP = 'mAP, P@K and IoU of JHMDB-Sentences, from COCO results'
DESCRIPTION = (
    'Score one mask a sentence by AP, P@K (IoU above K), overall and mean '
    'IoU; boxes likewise (without AP) if the predictions have them.'
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_result_arguments(parser)
    add_queries(parser)


def run(args: argparse.Namespace) -> Scores:
    """Score.

    Raises:
        DataError: If a file is unusable.
    """
    from referformer.evaluation.functional.segm import sentence_scores

    return score_results(
        args,
        'JHMDB-Sentences',
        partial(sentence_scores, queries=args.queries),
        queries=args.queries,
    )


def table(scores: Scores) -> str:
    """The scores in percent, for people."""
    return format_scores(scores)
