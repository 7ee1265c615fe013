# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""``ref-youtube-vos`` and ``ref-davis`` of ``tools/eval_masks.py``.

Also the published protocol of Ref-DAVIS17, whose label maps are made of the
expressions of one annotator each.
"""

import argparse
import time
from collections.abc import Callable, Container, Hashable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from referformer.errors import ConfigError, DataError, MissingDataError
from referformer.evaluation.functional.commands.common import (
    Scores,
    add_choice,
    add_command,
    add_expression_options,
    add_jobs,
    note_protocol,
)
from referformer.utils.console import warn

if TYPE_CHECKING:
    from referformer.evaluation.functional.expression_masks import (
        GroundTruth,
        LabelTruth,
        VideoTargets,
    )
    from referformer.formats.expressions import VideoEntry

PRED_HELP = (
    'folder with <video>/<expression>/<frame>.png (0 = background, 1 or 255 = '
    'object), maybe below Annotations/, or a zip file of that, or a .json or '
    '.jsonl file of {video_id, exp_id, segmentations}'
)
_MASKS = 'valid/Annotations'
_META = 'meta_expressions/{}/meta_expressions.json'


def add_commands(commands: Any) -> None:
    """Add the commands to the subparsers of argparse."""
    add = partial(add_command, commands, table=table_of, pred=PRED_HELP)
    ref_youtube_vos = add(
        'ref-youtube-vos',
        'J and F of Ref-YouTube-VOS, from masks of expressions or a '
        'submission',
        'Score each expression of Ref-YouTube-VOS valid on all frames of its '
        'video, without matching, and average over expressions.',
        _run_ref_youtube_vos,
        gt='folder of the data set, with meta_expressions/ and valid/',
    )
    ref_youtube_vos.add_argument(
        '--exclude',
        type=Path,
        metavar='FILE',
        help='expressions file of videos not to score; the one of valid lists '
        f'those of test too (default: <gt>/{_META.format("test")}, if it '
        'exists)',
    )
    ref_davis = add(
        'ref-davis',
        'J and F of Ref-DAVIS17, by either protocol in use',
        'Score Ref-DAVIS17, each object of which four annotators describe. '
        'The two protocols give different numbers; papers rarely say which '
        'is theirs.',
        _run_ref_davis,
        gt='folder of the data set, converted to Ref-YouTube-VOS form',
    )
    ref_davis.add_argument(
        '--protocol',
        choices=('published', 'per-expression'),
        required=True,
        help='published (ReferFormer and its family): --pred has label maps '
        'anno_<0..3>/<video>/<frame>.png, which the DAVIS unsupervised '
        'measure matches with the objects, void (255) not scored, mean of '
        f'four; per-expression (MeViS and its family): --pred is a '
        f'{PRED_HELP}, each scored on its own, void is background',
    )
    for parser in (ref_youtube_vos, ref_davis):
        add_scoring_options(parser)
        add_choice(
            parser,
            '--unannotated',
            'error skip',
            'frames without ground truth: refuse to score, or leave them out',
        )
        parser.add_argument(
            '--expressions',
            type=Path,
            metavar='FILE',
            help='expressions to score, with their obj_id, or the sentences '
            'by object of the first release (default: '
            f'<gt>/{_META.format("valid")})',
        )
        parser.add_argument(
            '--masks',
            type=Path,
            metavar='DIR',
            help=f'true label maps (default: <gt>/{_MASKS})',
        )


def add_scoring_options(parser: argparse.ArgumentParser) -> None:
    """Add what all commands on masks of expressions take."""
    add_choice(
        parser,
        '--missing',
        'error zero',
        'masks that are not in --pred: refuse to score, or count J = F = 0',
    )
    add_expression_options(parser)
    add_jobs(parser)


def read_targets(
    path: Path,
    entries: Mapping[str, 'VideoEntry'],
    read_target: Callable[[dict], Hashable],
    excluded: Container[str] = (),
) -> list['VideoTargets']:
    """Say what each expression of a file means, by ``read_target``.

    It takes an expression and raises ``ValueError`` with the reason if that
    does not say what it means; a ``DataError`` names the place.
    """
    from referformer.evaluation.functional.expression_masks import VideoTargets

    videos = []
    for video, entry in entries.items():
        if video in excluded:
            continue
        targets, attributes = {}, {}
        for name, expression in entry['expressions'].items():
            attributes[name] = expression.get('attributes', {})
            try:
                targets[name] = read_target(expression)
            except ValueError as error:
                raise DataError(
                    f'{path}: {video}/{name} has {error}.', file=path
                ) from None
        frames = tuple(entry['frames'])
        videos.append(VideoTargets(video, frames, targets, attributes))
    return videos


def _read_object_id(expression: dict) -> int:
    """The id of an object in the label maps."""
    if 'obj_id' not in expression:
        raise ValueError(
            'no obj_id, so it is unknown which object it means; give the '
            'file released with the ground truth by --expressions'
        )
    value = expression['obj_id']
    number = isinstance(value, int | str) and str(value).isdecimal()
    if not number or not 0 < int(value) < 255:
        raise ValueError(
            f'obj_id {value!r}; expected a number from 1 to 254, the id in '
            'the label maps'
        )
    return int(value)


def _label_targets(
    args: argparse.Namespace, excluded: Container[str] = ()
) -> list['VideoTargets']:
    """Read the expressions of label maps, which name one object each."""
    from referformer.formats.expressions import (
        lists_by_object,
        name_objects,
        read_expressions,
        read_objects,
    )
    from referformer.formats.frames import list_frames, sort_names

    usual = args.gt / _META.format('valid')
    path = args.expressions or usual
    if path == usual or not lists_by_object(path):
        videos = read_expressions(path)
        return read_targets(path, videos, _read_object_id, excluded)
    # Such a file has neither numbers nor all frames: both are those of the
    # usual file or, without it, the order of the file and the true masks.
    named = read_objects(path, 'expressions')
    if usual.is_file():
        videos = read_expressions(usual)
        name_objects(videos, named, path, usual)
    else:
        root, videos = _label_truth(args).root, {}
        for video, entry in named.items():
            frames = {*entry['frames'], *list_frames(root / video, ('.png',))}
            videos[video] = {**entry, 'frames': sort_names(frames)}
    return read_targets(path, videos, _read_object_id, excluded)


def _label_truth(args: argparse.Namespace) -> 'LabelTruth':
    """Ground truth in label maps."""
    from referformer.evaluation.functional.expression_masks import LabelTruth

    root = args.masks or args.gt / _MASKS
    if not root.is_dir():
        raise MissingDataError(
            f'{root} is not a folder; it should hold the true label maps '
            '<video>/<frame>.png. Give their place by --masks.',
            file=root,
        )
    return LabelTruth(root)


def score_clips(
    args: argparse.Namespace,
    title: str,
    clips: list['VideoTargets'],
    truth: 'GroundTruth',
) -> Scores:
    """Score masks of expressions and say what was done."""
    from referformer.evaluation.functional.expression_masks import (
        score_expressions,
    )
    from referformer.evaluation.functional.expression_scores import (
        ExpressionProtocol,
        summarize_expressions,
    )
    from referformer.formats.predictions import open_predictions

    begin = time.monotonic()
    switches = {'missing': args.missing}
    if 'unannotated' in args:
        switches['unannotated'] = args.unannotated
    frames = {clip.video: clip.frames for clip in clips}
    preds = open_predictions(args.pred, frames)
    found = score_expressions(clips, truth, preds, **switches, jobs=args.jobs)
    counts = {
        'num_videos': len({n.rpartition('/')[0] for n in found.expressions}),
        'num_expressions': len(found.expressions),
        'num_masks': sum(e['num_frames'] for e in found.expressions.values()),
        'num_missing': found.num_missing,
        'num_unannotated_frames': found.num_unannotated,
    }
    text = (
        '{num_videos} videos, {num_expressions} expressions, {num_masks} '
        'masks ({num_missing} missing)'
    )
    switches = {'matching': 'none', **switches}
    protocol = note_protocol(title, switches, counts, text, begin)
    reported = ExpressionProtocol(tuple(args.group_by), args.robustness)
    scores = summarize_expressions(found.expressions, reported)
    per_expression = scores.pop('per_expression')
    return {**scores, 'protocol': protocol, 'per_expression': per_expression}


def check_videos(title: str, number: int, expected: int) -> None:
    """Warn if not the videos of the split are scored."""
    if number != expected:
        warn(
            f'the score covers {number} videos; {title} valid has {expected}, '
            'so the score is not comparable to published ones.'
        )


def table_of(scores: Scores) -> str:
    """Measures in percent, one row for all, each annotator and each group."""
    from referformer.evaluation.functional.expression_scores import (
        MEASURES,
        group_rows,
    )

    rows = {**scores.get('per_annotator', {}), 'mean': scores}
    rows |= group_rows(scores)
    columns = [m for m in MEASURES if any(m in row for row in rows.values())]
    width = max(map(len, rows))
    lines = [' ' * width + ''.join(f'{name:>7}' for name in columns)]
    for name, row in rows.items():
        cells = (
            f'{100 * row[m]:7.2f}' if m in row else f'{"-":>7}'
            for m in columns
        )
        lines.append(f'{name:{width}}' + ''.join(cells))
    return '\n'.join(lines)


def _run_ref_youtube_vos(args: argparse.Namespace) -> Scores:
    from referformer.formats.expressions import read_video_table

    exclude = args.exclude or args.gt / _META.format('test')
    excluded: Container[str] = ()
    if args.exclude is not None or exclude.is_file():
        excluded = read_video_table(exclude, 'videos to leave out')
    clips = _label_targets(args, excluded)
    title = 'Ref-YouTube-VOS, per expression'
    scores = score_clips(args, title, clips, _label_truth(args))
    check_videos('Ref-YouTube-VOS', len(clips), 202)
    return scores


def _run_ref_davis(args: argparse.Namespace) -> Scores:
    from referformer.evaluation.functional.expression_scores import (
        split_annotators,
    )

    if args.protocol == 'published':
        scores = _score_annotators(args)
        number = scores['protocol']['num_videos']
    else:
        clips = _label_targets(args)
        title = 'Ref-DAVIS17, per expression'
        scores = score_clips(args, title, clips, _label_truth(args))
        per_expression = scores.pop('per_expression')
        scores['per_annotator'] = split_annotators(per_expression)
        scores['per_expression'] = per_expression
        number = len(clips)
    check_videos('Ref-DAVIS17', number, 30)
    return scores


def _score_annotators(args: argparse.Namespace) -> Scores:
    """Score the label maps of four annotators."""
    from referformer.evaluation.functional.label_folders import (
        annotator_folders,
        score_label_folders,
    )
    from referformer.evaluation.functional.protocols import (
        count_frames,
        summarize_annotators,
    )

    if args.group_by or args.robustness:
        raise ConfigError(
            'The published protocol scores objects, not expressions; take '
            '--protocol per-expression for --group-by and --robustness.'
        )
    if (args.missing, args.unannotated) != ('error', 'error'):
        raise ConfigError(
            'The published protocol scores complete label maps of annotated '
            'frames only; leave --missing and --unannotated alone, or take '
            '--protocol per-expression.'
        )
    begin = time.monotonic()
    masks = args.masks or args.gt / _MASKS
    folders = annotator_folders(args.pred)
    found = score_label_folders(masks, folders, 'unsupervised', args.jobs)
    try:
        scores = summarize_annotators(found)
    except DataError as error:
        raise DataError(f'{masks}: {error}', file=masks) from None
    per_annotator = scores.pop('per_annotator')
    counts = {
        'num_videos': len(found[0]),
        'num_objects': len(per_annotator['anno_0']['per_object']),
        'num_frames': count_frames(found[0]),
    }
    protocol = note_protocol(
        'Ref-DAVIS17, published protocol',
        {'matching': 'unsupervised', 'void': 'ignored'},
        counts,
        'mean of 4 annotators, {num_videos} videos, {num_objects} objects, '
        '{num_frames} frames each',
        begin,
    )
    return {**scores, 'protocol': protocol, 'per_annotator': per_annotator}
