# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Segment objects in a video by describing them.

Example:
    python tools/demo.py dogs.mp4 "the black dog" "the white dog" \
        --config referformer_r50_ytvos --checkpoint r50.pth --out out
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

# torch and mmengine are imported in main(), so that --help and a mistyped
# option answer at once.
from referformer.utils.cli import (
    add_former_name,
    add_precision,
    add_propagate,
    add_traceback,
    prepare_output,
    run,
)


def seconds(text: str) -> float:
    """Read a time, ``12.5``, ``1:30`` or ``1:02:03.5``, in seconds."""
    value = 0.0
    parts = text.split(':')
    try:
        for part in parts:
            value = 60 * value + float(part)
    except ValueError:
        value = -1.0
    if not 0 <= value < float('inf') or len(parts) > 3:
        raise argparse.ArgumentTypeError(
            f'{text!r} is not a time; write seconds, m:ss or h:mm:ss'
        )
    return value


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line, that of the process by default."""
    parser = argparse.ArgumentParser(
        description='Segment objects in a video by describing them.'
    )
    parser.add_argument(
        'video', help='video file, folder of pictures, or picture'
    )
    parser.add_argument(
        'expressions',
        nargs='+',
        metavar='EXPRESSION',
        help='object to segment, such as "the dog on the left"',
    )
    parser.add_argument(
        '--config',
        help='config file, or name of a config (default: that of the '
        'published model)',
    )
    parser.add_argument(
        '--checkpoint',
        required=True,
        help='its weights; without --config a published model, as a folder '
        'or hf://owner/repo',
    )
    parser.add_argument(
        '--out',
        required=True,
        metavar='DIR',
        help='DIR/<video>/ gets overlay.mp4, results.json and masks/',
    )
    group = parser.add_argument_group('frames')
    group.add_argument(
        '--fps',
        type=float,
        help='frames per second to look at (default: all); of a folder: '
        'frames per second that it has (default: 6)',
    )
    group.add_argument(
        '--every',
        type=int,
        default=1,
        metavar='N',
        help='look at every N-th frame only',
    )
    group.add_argument(
        '--start', type=seconds, metavar='TIME', help='seconds, or m:ss'
    )
    group.add_argument(
        '--end', type=seconds, metavar='TIME', help='seconds, or m:ss'
    )
    group.add_argument(
        '--partial',
        action='store_true',
        help='accept a video that is cut off and take what is there',
    )
    group = parser.add_argument_group('network')
    group.add_argument(
        '--window',
        type=int,
        metavar='T',
        help="frames seen at once (default: the config's, or 36)",
    )
    group.add_argument(
        '--link',
        choices=('none', 'overlap'),
        help='overlap: keep to one object from window to window; none: choose '
        "in every window anew, as published (default: the config's, or none)",
    )
    group.add_argument(
        '--overlap',
        type=int,
        metavar='N',
        help="frames that linked windows share (default: the config's, or a "
        'quarter)',
    )
    mask_thr = group.add_argument(
        '--mask-thr',
        type=float,
        metavar='P',
        help="probability above which a pixel counts (default: the config's)",
    )
    add_former_name(group, '--thr', mask_thr)
    group.add_argument(
        '--score-thr',
        type=float,
        metavar='P',
        help='leave the masks of frames with a lower score empty '
        "(default: the config's, or 0)",
    )
    add_propagate(group)
    group.add_argument(
        '--device', help='such as cuda:0 or cpu (default: a GPU if any)'
    )
    add_precision(group)
    group = parser.add_argument_group('output')
    group.add_argument(
        '--masks',
        choices=('png', 'rle', 'none'),
        default='png',
        help='files in masks/ (default), or COCO RLE in results.json',
    )
    group.add_argument(
        '--no-vis', action='store_true', help='write no overlay'
    )
    group.add_argument(
        '--boxes', action='store_true', help='draw boxes with scores'
    )
    group.add_argument(
        '--points', action='store_true', help='draw reference points'
    )
    add_traceback(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Segment the video and say what was written."""
    args = parse_args(argv)

    from referformer.apis import ReferInferencer
    from referformer.apis.outputs import OutputOptions
    from referformer.apis.results import Collector
    from referformer.errors import ConfigError

    prepare_output(Path(args.out, 'errors.log'), '--out')
    for text in args.expressions:
        # Path.is_file refuses long names
        if os.path.isfile(text):  # noqa: PTH113
            raise ConfigError(
                f'{text} is a file, not an expression; give one video at a '
                'time.'
            )

    def given(*names: str) -> dict[str, Any]:
        return {name: getattr(args, name) for name in names}

    frames = given('fps', 'every', 'start', 'end', 'partial')
    [(source, texts)] = ReferInferencer.preprocess(
        args.video, args.expressions, **frames
    )
    if source.missing:
        print(
            f'warning: {args.video} is cut off; {source.missing} of its '
            'frames are missing',
            file=sys.stderr,
        )
    if args.config is None:
        inferencer = ReferInferencer.from_pretrained(
            args.checkpoint, args.device
        )
    else:
        inferencer = ReferInferencer(args.config, args.checkpoint, args.device)
    predictor = inferencer.model.predictor.override(
        **given('window', 'link', 'overlap', 'precision'),
        **given('mask_thr', 'score_thr'),
        propagator=args.propagate,
    )
    collector = Collector(texts, 'none')
    files = inferencer.run(
        source,
        texts,
        predictor,
        [collector.write],
        Path(args.out, source.name),
        OutputOptions(args.masks, not args.no_vis, args.boxes, args.points),
    )
    print(f'{"score":>5}  {"found in":>14}  expression')
    for found in collector.result(source).expressions:
        where = f'{(found.areas > 0).sum()} of {len(source)}'
        print(f'{found.scores.mean():5.2f}  {where:>14}  {found.text}')
    for path in files.values():
        print(path)


if __name__ == '__main__':
    import signal

    # SIGTERM ends like Ctrl-C: no half-written files are left behind
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # names of files need not be what the terminal can show
    sys.stdout.reconfigure(errors='backslashreplace')
    run(main)
