# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Segment objects in a video by describing them.

Example:
    python tools/demo.py --example
    python tools/demo.py dogs.mp4 "the black dog" "the white dog" \
        --config referformer_r50_ytvos --checkpoint r50.pth --out out
"""

import argparse
import os
import secrets
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
    positive,
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
        'video', nargs='?', help='video file, folder of pictures, or picture'
    )
    parser.add_argument(
        'expressions',
        nargs='*',
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
        help='its weights; without --config a published model, as a folder '
        'or hf://owner/repo',
    )
    parser.add_argument(
        '--out',
        metavar='DIR',
        help='DIR/<video>/ gets overlay.mp4, results.json and masks/',
    )
    parser.add_argument(
        '--example',
        nargs='?',
        type=positive,
        const=1 + secrets.randbelow(10**6),
        metavar='NUMBER',
        help='draw a video and three sentences, and segment it with the '
        'example model of this package; nothing else is needed. A number '
        'draws the same video again',
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
    group.add_argument(
        '--scale',
        type=positive,
        default=1,
        metavar='N',
        help='enlarge the overlay so many times',
    )
    group.add_argument(
        '--still',
        action='store_true',
        help='also write overlay.png, four frames of the overlay of a video',
    )
    add_traceback(parser)
    args = parser.parse_args(argv)
    if args.example is None:
        needed = ('video', 'expressions', 'checkpoint', 'out')
        missing = [name for name in needed if not getattr(args, name)]
        if missing:
            parser.error(
                f'missing: {", ".join(missing)} (or try --example, which '
                'needs nothing else)'
            )
    else:
        own = ('video', 'config', 'checkpoint', 'fps', 'every', 'start')
        given = [
            name
            for name in (*own, 'end', 'no_vis')
            if getattr(args, name) != parser.get_default(name)
        ]
        if given:
            parser.error(
                '--example has its own video, sentences and model; leave out '
                f'{", ".join(given)}'
            )
        args.scale, args.still = 3, True
        args.out = args.out or 'work_dirs/demo'
    return args


def main(argv: list[str] | None = None) -> None:
    """Segment the video and say what was written."""
    args = parse_args(argv)

    from dataclasses import replace

    from referformer.apis import ReferInferencer, example_model
    from referformer.apis.outputs import OutputOptions
    from referformer.apis.results import Collector
    from referformer.errors import ConfigError
    from referformer.testing.example_video import draw_example

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
    example = None
    if args.example is not None:
        example = draw_example(args.example)
        args.video, args.expressions = example.frames, example.texts
        args.checkpoint = example_model()
    [(source, texts)] = ReferInferencer.preprocess(
        args.video, args.expressions, **frames
    )
    if example is not None:
        source = replace(source, name=example.name)
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
    collector = Collector(texts, 'none' if example is None else 'array')
    files = inferencer.run(
        source,
        texts,
        predictor,
        [collector.write],
        Path(args.out, source.name),
        OutputOptions(
            args.masks,
            not args.no_vis,
            **given('boxes', 'points', 'scale', 'still'),
        ),
    )
    result = collector.result(source)
    print(f'{"score":>5}  {"found in":>14}  expression')
    for found in result.expressions:
        where = f'{(found.areas > 0).sum()} of {len(source)}'
        print(f'{found.scores.mean():5.2f}  {where:>14}  {found.text}')
    for path in files.values():
        print(path)
    if example is not None:
        masks = [found.masks for found in result.expressions]
        print(f'\n{example.explain(masks, files)}')


if __name__ == '__main__':
    import signal

    # SIGTERM ends like Ctrl-C: no half-written files are left behind
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # names of files need not be what the terminal can show
    sys.stdout.reconfigure(errors='backslashreplace')
    run(main)
