# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Draw predictions on test videos: one mosaic video and a still picture.

With a table of scores, also single clips as pictures that move.

Example:
    python tools/analysis_tools/draw_overlays.py CONFIG CHECKPOINT --out a.mp4
    python tools/test.py CONFIG CHECKPOINT --cfg-options \
        test_evaluator.outfile=table.json
    python tools/analysis_tools/draw_overlays.py CONFIG CHECKPOINT \
        --out a.mp4 --scores table.json --clips clips
"""

import argparse
from pathlib import Path

from referformer.utils.cli import (
    add_common_options,
    positive,
    prepare_output,
    run,
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description='Draw predictions on test videos.'
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--out', type=Path, required=True, help='.mp4 to write'
    )
    parser.add_argument('--videos', type=positive, default=4, help='rows')
    parser.add_argument(
        '--expressions',
        type=positive,
        default=3,
        help='columns: most objects of a video',
    )
    parser.add_argument(
        '--scale', type=positive, default=3, help='how many times to enlarge'
    )
    parser.add_argument('--fps', type=float, default=4.0)
    group = parser.add_argument_group('single clips')
    group.add_argument(
        '--clips',
        type=Path,
        metavar='DIR',
        help='write clips as pictures that move (.webp), the true object in a '
        'white line, and clips.json to this folder; needs --scores',
    )
    group.add_argument(
        '--scores',
        type=Path,
        metavar='FILE',
        help='scores of expressions, as test_evaluator.outfile names them',
    )
    group.add_argument(
        '--sample',
        type=positive,
        default=12,
        metavar='N',
        help='clips spread over the set and its attributes (default: 12)',
    )
    group.add_argument(
        '--worst',
        type=positive,
        default=4,
        metavar='N',
        help='clips with the lowest J (default: 4)',
    )
    add_common_options(parser)
    args = parser.parse_args(argv)
    if (args.clips is None) != (args.scores is None):
        parser.error('--clips and --scores belong together')
    return args


def main(argv: list[str] | None = None) -> None:
    """Predict the chosen clips, write the mosaic and single clips."""
    args = parse_args(argv)

    from mmengine.registry import init_default_scope

    from referformer.apis import init_model
    from referformer.registry import DATASETS, VISUALIZERS
    from referformer.testing.overlays import (
        ClipPainter,
        read_scores,
        write_clips,
        write_mosaic,
    )
    from referformer.utils.launch import load_config

    prepare_output(args.out, '--out')
    if args.clips is not None:
        prepare_output(args.clips / 'errors.log', '--clips')
        scores = read_scores(args.scores)
    cfg = load_config(args.config, args.cfg_options, args.work_dir, 'none')
    init_default_scope(cfg.default_scope)
    dataset = cfg.test_dataloader.dataset
    dataset.pop('group_by_video', None)  # a clip shows one expression
    painter = ClipPainter(
        init_model(cfg, args.checkpoint, 'cpu'),
        DATASETS.build(dataset),
        VISUALIZERS.build(dict(cfg.visualizer, vis_backends=None)),
        args.scale,
    )
    print(
        write_mosaic(
            painter, args.out, args.videos, args.expressions, args.fps
        )
    )
    if args.clips is not None:
        numbers = (args.sample, args.worst)
        print(write_clips(painter, args.clips, scores, *numbers, args.fps))


if __name__ == '__main__':
    run(main)
