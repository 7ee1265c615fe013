# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Label many videos with the masks of the objects that are described.

Example:
    python tools/label_videos.py --manifest videos.jsonl --out labels \
        --config referformer_r50_ytvos --checkpoint r50.pth

A line of the manifest is {"path": "dogs.mp4", "expressions": ["a dog"]}.
Interrupted, the same command goes on; several may run at the same time.
"""

import argparse
import os
from dataclasses import asdict
from pathlib import Path

# torch and mmengine are imported in main(), so that --help and a mistyped
# option answer at once.
from referformer.utils.cli import (
    add_cfg_options,
    add_traceback,
    positive,
    prepare_output,
    run,
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line, that of the process by default."""
    parser = argparse.ArgumentParser(
        description='Label many videos with the masks of the objects that '
        'are described. Interrupted, the same command goes on; several may '
        'run at the same time.'
    )
    parser.add_argument(
        '--manifest',
        required=True,
        metavar='FILE',
        help='JSON lines such as {"path": "dogs.mp4", "expressions": '
        '["a dog"], "start": 3, "end": 9}',
    )
    parser.add_argument(
        '--out',
        required=True,
        metavar='DIR',
        help='folder that gets a file of masks a video',
    )
    parser.add_argument(
        '--config', required=True, help='config file, or name of a config'
    )
    parser.add_argument('--checkpoint', required=True, help='its weights')
    parser.add_argument(
        '--shard',
        metavar='I/N',
        help='do part I of N, from 0 to N - 1 (default: what torchrun, srun '
        'or an array of Slurm says, or all)',
    )
    parser.add_argument(
        '--root',
        metavar='DIR',
        help='folder that the paths begin at (default: that of the manifest)',
    )
    parser.add_argument(
        '--attempts',
        type=positive,
        default=2,
        metavar='N',
        help='how often a video is tried that fails (default: %(default)s); '
        'a larger number tries again what failed before',
    )
    parser.add_argument(
        '--max-failures',
        type=positive,
        default=20,
        metavar='N',
        help='stop after so many failures in a row (default: %(default)s)',
    )
    parser.add_argument(
        '--device', help='such as cuda:0 or cpu (default: a GPU if any)'
    )
    add_cfg_options(parser)
    add_traceback(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Label the videos; the status is 0 if all have labels."""
    args = parse_args(argv)
    prepare_output(Path(args.out, 'errors.log'), '--out')

    from referformer.apis.labelling import (
        Labeller,
        find_device,
        find_shard,
        label_shard,
    )
    from referformer.formats.files import write_json
    from referformer.formats.manifest import read_manifest
    from referformer.utils.launch import load_config

    shard, source = find_shard(args.shard, os.environ)
    jobs = list(read_manifest(args.manifest, shard))
    print(
        f'part {shard.index} of {shard.count} ({source}): {len(jobs)} videos'
    )
    labeller = Labeller(
        load_config(args.config, args.cfg_options, work_dir=args.out),
        args.checkpoint,
        args.out,
        args.root or Path(args.manifest).parent,
        args.device or find_device(os.environ),
        args.attempts,
    )
    summary = label_shard(labeller, jobs, args.max_failures)
    path = Path(args.out, f'summary-{shard.index}-of-{shard.count}.json')
    write_json(path, asdict(summary))
    rate = summary.frames / max(summary.seconds, 1e-6)
    print(
        f'{summary.new} videos labelled in {summary.seconds:.0f} s '
        f'({summary.frames} frames, {rate:.1f} a second), {summary.done} done '
        f'before, {summary.busy} left to other processes, {summary.failed} '
        f'failed ({labeller.store.failure_path("*").parent})'
    )
    return 1 if summary.failed or summary.busy else 0


if __name__ == '__main__':
    import signal

    # SIGTERM ends like Ctrl-C: the video at work is given back
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run(main)
