# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Compare two results, expression by expression, and draw what differs most.

Examples:
    python tools/analysis_tools/compare_scores.py A.json B.json --group-by type
    python tools/analysis_tools/compare_scores.py A.json B.json \
        --show-dir differences --config CONFIG --pred A.zip B.zip
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from referformer.errors import ConfigError, DataError
from referformer.utils.cli import (
    add_cfg_options,
    positive,
    prepare_output,
    run,
)

if TYPE_CHECKING:
    from mmdet.structures import TrackDataSample

FRAMES_DRAWN = 6


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description='Compare two results on the same expressions: B - A with '
        'its confidence interval (paired bootstrap over videos), and the '
        'expressions that differ most.'
    )
    for name in 'AB':
        parser.add_argument(
            name.lower(),
            type=Path,
            metavar=f'{name}.json',
            help='scores: of tools/eval_masks.py, or "outfile" of a metric',
        )
    parser.add_argument(
        '--measure', help='what to compare (default: J&F, or else IoU)'
    )
    parser.add_argument(
        '--level',
        type=float,
        default=0.95,
        help='confidence level of the intervals (default 0.95)',
    )
    parser.add_argument(
        '--group-by',
        nargs='+',
        default=(),
        metavar='ATTRIBUTE',
        help='compare the expressions with each value of an attribute, too',
    )
    parser.add_argument(
        '--top',
        type=positive,
        default=20,
        help='expressions to list and draw (default 20)',
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='of the bootstrap (default 0)'
    )
    parser.add_argument(
        '--out', type=Path, metavar='FILE.json', help='write all numbers'
    )
    parser.add_argument(
        '--show-dir',
        type=Path,
        metavar='DIR',
        help='draw the expressions that differ most: frames, truth, A and B; '
        'needs --config and --pred',
    )
    parser.add_argument(
        '--config', help='config whose test set has the frames and the truth'
    )
    parser.add_argument(
        '--pred',
        nargs=2,
        type=Path,
        metavar=('A', 'B'),
        help='predicted masks of the two: folders, zip files or JSON files',
    )
    add_cfg_options(parser)
    args = parser.parse_args(argv)
    if not 0 < args.level < 1:
        parser.error('--level is between 0 and 1')
    if args.show_dir and not (args.config and args.pred):
        parser.error('--show-dir needs --config and --pred')
    return args


def draw_clips(
    args: argparse.Namespace, names: list[str], units: dict[str, Any]
) -> None:
    """Draw frames, truth and both predictions of some expressions."""
    import numpy as np
    from mmengine.registry import init_default_scope

    from referformer.evaluation.metrics.predicted_clip import read_clip
    from referformer.formats.predictions import open_predictions
    from referformer.media.pictures import write_image
    from referformer.registry import DATASETS
    from referformer.utils.launch import explain_config_errors, load_config
    from referformer.visualization.side_by_side import draw_side_by_side

    cfg = load_config(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'referformer'))
    if cfg.get('test_dataloader') is None:
        raise ConfigError(f'{args.config} has no test data.')
    with explain_config_errors(args.config, cfg):
        dataset = DATASETS.build(cfg.test_dataloader.dataset)
    wanted = dict.fromkeys(name.rpartition('/')[0] for name in names)
    frames = {}
    for index in range(len(dataset)):
        video = dataset.item_id(index).video_id
        if video in wanted and video not in frames:
            frames[video] = dataset.get_data_info(index)['frame_names']
    preds = [open_predictions(path, frames) for path in args.pred]
    ranks = {name: rank for rank, name in enumerate(names, 1)}
    for index in range(len(dataset)):
        item = dataset.item_id(index)
        if item.video_id not in wanted or not (
            item.exp_id is None or f'{item.video_id}/{item.exp_id}' in ranks
        ):
            continue
        item = dataset[index]
        images = item['inputs'].numpy()
        for sample in split(item['data_samples']):
            clip = read_clip(sample.to_dict())
            if clip.name not in ranks:
                continue
            unit = units[clip.name]
            chosen = np.linspace(0, len(images) - 1, FRAMES_DRAWN)
            chosen = sorted(set(chosen.round().astype(int).tolist()))
            titles = (f'{k}: {100 * unit[k]:.1f}' for k in 'AB')
            masks = {'truth': [clip.true_mask(t) for t in chosen]}
            for title, pred in zip(titles, preds, strict=True):
                masks[title] = [
                    pred.read(
                        f'{clip.name}/{clip.frame_name(t)}.png', clip.shape(t)
                    )
                    for t in chosen
                ]
            picture = draw_side_by_side(
                # the pipeline has channels first, BGR
                [images[t].transpose(1, 2, 0)[..., ::-1] for t in chosen],
                masks,
                f'{clip.text}   [{clip.name}]',
            )
            rank = ranks.pop(clip.name)
            name = clip.name.replace('/', '_')
            write_image(args.show_dir / f'{rank:02d}_{name}.png', picture)
    if ranks:
        raise DataError(
            f'The test set of {args.config} has no expression '
            f'{next(iter(ranks))}; give the config of the set that was '
            'scored.',
            file=args.config,
        )


def split(sample: 'TrackDataSample') -> 'list[TrackDataSample]':
    """Return the clips of an item, one for each expression."""
    from referformer.structures import split_expressions

    return split_expressions(sample) if 'expressions' in sample else [sample]


def main(argv: list[str] | None = None) -> None:
    """Compare, print, write and draw."""
    args = parse_args(argv)

    from referformer.evaluation.functional.comparison import (
        compare_scores,
        differing_most,
        format_comparison,
        read_units,
    )
    from referformer.formats.files import write_json

    if args.out is not None:
        prepare_output(args.out, '--out')
    if args.show_dir is not None:
        prepare_output(args.show_dir / '01.png', '--show-dir')
    report = compare_scores(
        read_units(args.a),
        read_units(args.b),
        args.measure,
        args.level,
        args.group_by,
        seed=args.seed,
    )
    print(format_comparison(report, args.top))
    if args.out is not None:
        files = {'A': str(args.a), 'B': str(args.b)}
        write_json(args.out, {**files, **report})
        print(f'written to {args.out}')
    if args.show_dir is not None:
        names = differing_most(report, args.top)
        draw_clips(args, names, report['units'])
        print(f'drew {len(names)} expressions in {args.show_dir}')


if __name__ == '__main__':
    run(main)
