# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Open a web page that segments objects in a video by describing them.

Examples:
    python tools/web_demo.py
    python tools/web_demo.py --checkpoint hf://owner/repo
    python tools/web_demo.py --config referformer_r50_ytvos \
        --checkpoint r50.pth --example dogs.mp4 "the black dog"
"""

import argparse
import logging
import os
import signal
import tempfile
from pathlib import Path
from typing import Any

# torch, mmengine and gradio are imported in main(), so that --help and a
# mistyped option answer at once.
from referformer.utils.cli import add_precision, add_traceback, positive, run


def above_zero(text: str) -> float:
    """Argparse type of a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float('inf'):
        raise argparse.ArgumentTypeError(f'{text!r} is not a number above 0')
    return value


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line, that of the process by default."""
    parser = argparse.ArgumentParser(
        description='Open a web page that segments objects in a video by '
        'describing them. It is for this machine alone unless --host says '
        'otherwise.'
    )
    parser.add_argument(
        '--config',
        help='config file, or name of a config (default: that of the '
        'published model)',
    )
    parser.add_argument(
        '--checkpoint',
        help='its weights; without --config a published model, as a folder '
        'or hf://owner/repo (default: the example model of the package)',
    )
    parser.add_argument(
        '--device', help='such as cuda:0 or cpu (default: a GPU if any)'
    )
    add_precision(parser)
    parser.add_argument(
        '--window',
        type=positive,
        metavar='T',
        help="frames seen at once (default: the config's, or 36)",
    )
    parser.add_argument(
        '--link',
        choices=('none', 'overlap'),
        help='overlap: keep to one object from window to window (default: '
        "the config's, or none)",
    )
    group = parser.add_argument_group('page')
    group.add_argument(
        '--example',
        nargs='+',
        action='append',
        default=[],
        metavar='VIDEO EXPRESSION',
        help='a video to try, and expressions; may be given several times '
        '(default: a drawn one)',
    )
    group.add_argument('--title', default='ReferFormer', help='its headline')
    group.add_argument(
        '--host',
        default='127.0.0.1',
        help='address to listen at; another one than the default lets others '
        'upload videos to this machine (default: %(default)s)',
    )
    group.add_argument(
        '--port', type=int, help='its port (default: a free one from 7860)'
    )
    group = parser.add_argument_group('limits')
    group.add_argument(
        '--fps',
        type=above_zero,
        default=6.0,
        help='frames per second to look at (default: %(default)g)',
    )
    group.add_argument(
        '--max-mb',
        type=above_zero,
        default=200,
        metavar='MB',
        help='size of a video file (default: %(default)s)',
    )
    group.add_argument(
        '--max-seconds',
        type=above_zero,
        default=30,
        metavar='S',
        help='length of the part to segment (default: %(default)s)',
    )
    group.add_argument(
        '--max-expressions',
        type=positive,
        default=6,
        metavar='N',
        help='expressions at once (default: %(default)s)',
    )
    group.add_argument(
        '--max-waiting',
        type=positive,
        default=50,
        metavar='N',
        help='runs that wait for their turn (default: %(default)s)',
    )
    group.add_argument(
        '--max-idle',
        type=above_zero,
        default=60,
        metavar='MINUTES',
        help='time after which a visit without any action ends '
        '(default: %(default)s)',
    )
    group.add_argument(
        '--feature-mb',
        type=above_zero,
        default=2000,
        metavar='MB',
        help='memory for the features of frames, which make edits fast '
        '(default: %(default)s)',
    )
    add_traceback(parser)
    return parser.parse_args(argv)


def draw_example(folder: Path) -> list[tuple[Path, list[str]]]:
    """Draw a video of a scene; return it with some of its expressions."""
    from referformer.media.writer import write_video
    from referformer.testing.motion_scenes import (
        MotionSceneParams,
        render_scene,
    )

    video = render_scene(MotionSceneParams(frames=16), 'valid', 0)
    path = folder / 'drawn.mp4'
    write_video(path, video.frames, 6)
    objects = {}
    for expression in video.expressions:
        objects.setdefault(expression.obj_id, expression.text)
    return [(path, list(objects.values())[:3])]


def main(argv: list[str] | None = None) -> None:
    """Serve the page until it is interrupted."""
    args = parse_args(argv)
    # before gradio is imported
    os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'
    try:
        import gradio
    except ModuleNotFoundError as error:
        from referformer.errors import MissingPackageError

        raise MissingPackageError(
            'The web page needs Gradio 6; run: pip install "gradio>=6,<7"'
        ) from error
    del gradio
    from referformer.apis import ReferInferencer, example_model, open_source
    from referformer.apis.web.page import Example
    from referformer.apis.web.server import serve
    from referformer.apis.web.service import Limits, SegmentationService

    if args.config is None:
        inferencer = ReferInferencer.from_pretrained(
            args.checkpoint or example_model(),
            args.device,
            show_progress=False,
        )
    else:
        inferencer = ReferInferencer(
            args.config, args.checkpoint, args.device, show_progress=False
        )

    def given(*names: str) -> dict[str, Any]:
        return {name: getattr(args, name) for name in names}

    predictor = inferencer.model.predictor.override(
        **given('window', 'link', 'precision')
    )
    limits = Limits(
        **given('max_mb', 'max_seconds', 'max_expressions', 'max_waiting'),
        max_idle=60 * args.max_idle,
    )
    logging.basicConfig(format='%(asctime)s %(levelname)s %(message)s')
    with tempfile.TemporaryDirectory(prefix='referformer-web-') as folder:
        examples = [(Path(video), texts) for video, *texts in args.example]
        for video, _ in examples:
            open_source(video)  # errors come before the visitors
        with (
            SegmentationService(
                inferencer,
                Path(folder).resolve(),
                predictor,
                limits,
                **given('fps', 'feature_mb'),
            ) as service,
            serve(
                service,
                [
                    Example(*each)
                    for each in examples or draw_example(Path(folder))
                ],
                **given('title', 'host', 'port'),
            ) as address,
        ):
            print(f'Open {address} in a browser; Ctrl-C ends it.', flush=True)
            signal.pause()


if __name__ == '__main__':
    # SIGTERM ends like Ctrl-C: the files of visitors are removed
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run(main)
