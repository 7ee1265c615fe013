# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Draw losses, scores, learning rates, times and memory of trainings.

Examples:
    python tools/analysis_tools/analyze_logs.py work_dirs/referformer_r50_ytvos
    python tools/analysis_tools/analyze_logs.py RUN_A RUN_B --out charts
"""

import argparse
from pathlib import Path

from referformer.errors import ConfigError
from referformer.utils.cli import add_traceback, prepare_output, run


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description='Draw losses, scores of the validation, learning rates, '
        'norm of the gradients, times and memory of one or several trainings '
        'into training.png and training.html.'
    )
    parser.add_argument(
        'runs',
        nargs='+',
        type=Path,
        metavar='RUN',
        help='work directory of a training; where it was resumed, its logs '
        'are joined',
    )
    parser.add_argument(
        '--out',
        type=Path,
        metavar='DIR',
        help='folder for the two files (default: the first RUN)',
    )
    add_traceback(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Read, print and draw."""
    args = parse_args(argv)

    from referformer.formats.run_logs import read_run
    from referformer.visualization.run_charts import summary_of, write_charts

    runs = {}
    for path in args.runs:
        name = path.resolve().name
        if name in runs:
            name = str(path)
        if name in runs:
            raise ConfigError(f'{path} is given twice.', value=str(path))
        runs[name] = read_run(path)
    out = args.out or args.runs[0]
    picture, page = out / 'training.png', out / 'training.html'
    prepare_output(picture, '--out')
    for name, log in runs.items():
        print(f'{name}: {log.training["loss"].iterations[-1]} iterations')
        if log.unreadable:
            print(f'  {log.unreadable} lines of the log cannot be read')
        for key, last, best in summary_of(log):
            print(f'  {key:28}{last:>12}{"  best " + best if best else ""}')
    write_charts(runs, picture, page)
    print(f'written to {picture} and {page}')


if __name__ == '__main__':
    run(main)
