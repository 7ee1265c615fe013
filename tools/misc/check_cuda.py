# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Check and time everything on a GPU, one step after the other.

Each step is a process of its own with a time limit. What it found is kept
even where a later one fails; summary.txt has a line for each.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PARITY = 'tests/test_parity/'


class Step(NamedTuple):
    """A command with a time limit.

    Attributes:
        name (str): Name of the files in the folder of results.
        command (list[str]): Arguments of the interpreter.
        seconds (int): Limit.
        times (bool): Whether it writes ``name.json``.
    """

    name: str
    command: list[str]
    seconds: int
    times: bool = False


def tests(name: str, *files: str, only: str, seconds: int) -> Step:
    """A step that runs tests of the device."""
    return Step(name, ['-m', 'pytest', '-q', '-k', only, *files], seconds)


def timing(
    name: str, command: str, backbone: str, frames: int, *options: str
) -> Step:
    """A step that measures a setting, and others in turn with it."""
    config = f'configs/referformer_{backbone}_ytvos.py'
    script = 'tools/analysis_tools/benchmark.py'
    options = ('--frames', str(frames), *options)
    return Step(name, [script, command, config, *options], 60, times=True)


def against_published(args: argparse.Namespace, backbone: str) -> Step:
    """A step that measures a backbone in turn with the published code."""
    seconds = 120
    script = 'tools/misc/compare_published.py'
    command = [script, args.published, '--backbone', backbone]
    command += ['--frames', *map(str, sorted(args.frames))]
    # ends by itself, so that all it found so far is in its report
    command += ['--budget', f'{0.8 * seconds * args.patience:.0f}']
    if args.compile:
        command.append('--compile')
    return Step(f'published_{backbone}', command, seconds, times=True)


def list_steps(args: argparse.Namespace) -> list[Step]:
    """All steps, what matters most first."""
    operator, model = PARITY + 'test_cuda_op.py', PARITY + 'test_gpu_model.py'
    on = 'cuda' if args.device != 'cpu' else 'cpu'
    steps = [
        tests(
            'operator',
            operator,
            only=f'operator and {on}' if on == 'cpu' else 'operator',
            seconds=60,
        ),
        tests(
            'golden',
            operator,
            model,
            only=f'recorded_case and {on}' if on == 'cpu' else 'recorded_case',
            seconds=90,
        ),
    ]
    if on == 'cuda':
        steps.append(tests('no_waiting', model, only='no_waiting', seconds=90))
    steps += [
        tests(
            'precision',
            model,
            only=f'(matches or bfloat16) and {on}',
            seconds=90,
        ),
    ]
    if on == 'cuda':
        steps.append(
            tests(
                'two_gpus',
                operator,
                model,
                'tests/test_models/test_distributed.py',
                only='second_device or two_gpus',
                seconds=60,
            )
        )
    graphs = 'tests/test_prediction/test_cuda_graphs.py'
    only = 'gpu' if on == 'cuda' else 'not gpu'
    steps.append(tests('graphs', graphs, only=only, seconds=60))
    large, short = max(args.frames), min(args.frames)
    steps.append(timing(f'memory_vswin-b_T{large}', 'infer', 'vswin-b', large))
    if args.published:
        steps += [against_published(args, name) for name in args.backbones]
    rival = ['--vs', args.checkout] if args.checkout else []
    for backbone in args.backbones:
        for frames in args.frames:
            name = f'{backbone}_T{frames}'
            half = ['--vs', 'precision=bf16']
            steps.append(
                timing(f'infer_{name}_bf16', 'infer', backbone, frames, *half)
            )
            if frames == short and not args.published:
                eight = ['--expressions', '8', '--vs', 'expressions=1']
                steps += [
                    timing(
                        f'infer_{name}_8-expressions',
                        'infer',
                        backbone,
                        frames,
                        *eight,
                    ),
                    timing(
                        f'train_{name}_bf16', 'train', backbone, frames, *half
                    ),
                ]
            for command in ('infer', 'train') if rival else ():
                if command == 'infer' or frames == short:
                    steps.append(
                        timing(
                            f'{command}_{name}_checkout',
                            command,
                            backbone,
                            frames,
                            *rival,
                        )
                    )
    sized = ['--size', *map(str, args.size), '--device', args.device]
    # graphs are recorded at the third call
    sized += ['--repeats', str(args.repeats), '--warmup', str(args.warmup)]
    return [
        step._replace(command=[*step.command, *sized]) if step.times else step
        for step in steps
    ]


def run_step(step: Step, out: Path, limit: float) -> str:
    """Run a step for so many seconds; return a line about it."""
    command = [sys.executable, *step.command]
    if step.times:
        command += ['--out', str(out / f'{step.name}.json')]
    log = out / f'{step.name}.log'
    started = time.monotonic()
    try:
        with log.open('w') as file:
            status = subprocess.run(
                command,
                cwd=ROOT,
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=limit,
                env={**os.environ, 'PYTHONPATH': python_path()},
            ).returncode
    except subprocess.TimeoutExpired:
        status = None
    seconds = time.monotonic() - started
    outcome = {0: 'passed', 5: 'no test applies', None: 'out of time'}
    lines = log.read_text(errors='replace').strip().splitlines() or ['']
    found = lines[-1].strip('= ')
    report = out / f'{step.name}.json'
    if step.times and report.exists():
        found = describe(json.loads(report.read_text()))
    outcome = outcome.get(status, 'FAILED')
    return f'{step.name:32s} {outcome:12s} {seconds:5.0f} s  {found}'


def python_path() -> str:
    """This checkout first, then what was given."""
    given = os.environ.get('PYTHONPATH')
    return str(ROOT) if not given else f'{ROOT}{os.pathsep}{given}'


def describe_case(row: dict) -> str:
    """A line of a comparison with the published code."""
    who = f'    {row["case"]:28s} {row.get("who", ""):16s}'
    if 'ms' not in row:
        return who + (row.get('failed') or 'NOT RUN: no time left')
    parts = [f'{row["ms"]:8.1f} ms']
    if 'ratio' in row:
        parts.append(f'{row["ratio"]:5.2f} x')
    if row['gib'] is not None:
        parts.append(f'{row["gib"]:6.2f} GiB')
    if 'loss' in row:
        parts.append(f'loss {row["loss"]:.5f}')
    else:
        parts.append(f'{row["equal bits"]:.3%} of the mask bits equal')
    return who + '  '.join(parts)


def describe(report: dict | list) -> str:
    """Medians, memory and ratio of a measurement."""
    parts = []
    if isinstance(report, list):
        return '\n'.join(['', *map(describe_case, report)])
    for row in report['measured']:
        setting = row['setting']
        name = setting.get('checkout', setting['precision'])
        parts.append(
            f'{Path(name).name}, E={setting["expressions"]}: '
            f'{1e3 * row["seconds"]["median"]:.1f} ms, '
            f'{row["peak_mib"] / 1024:.2f} GiB'
        )
    return '; '.join(parts)


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('out', type=Path, help='folder of the results')
    parser.add_argument('--device', default='cuda', help='default cuda')
    parser.add_argument('--checkout', help='another checkout of this project')
    parser.add_argument(
        '--published', help='checkout of the published code, timed in turn'
    )
    parser.add_argument(
        '--compile',
        action='store_true',
        help='compile the backbone as well, with --published',
    )
    parser.add_argument(
        '--budget', type=float, default=480, help='seconds in all'
    )
    parser.add_argument(
        '--patience',
        type=float,
        default=1.0,
        help='factor of the time limits, for slow devices (default 1)',
    )
    parser.add_argument('--backbones', nargs='+', default=['r50', 'vswin-b'])
    parser.add_argument('--frames', type=int, nargs='+', default=[5, 36])
    parser.add_argument('--size', type=int, nargs=2, default=[360, 640])
    parser.add_argument('--repeats', type=int, default=7)
    parser.add_argument('--warmup', type=int, default=4)
    parser.add_argument('--only', help='steps whose names hold this')
    return parser.parse_args()


def main() -> int:
    """Run every step; return how many failed."""
    args = parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    ends = time.monotonic() + args.budget
    failed = 0
    with (args.out / 'summary.txt').open('w') as summary:
        for step in list_steps(args):
            if args.only and args.only not in step.name:
                continue
            left = ends - time.monotonic()
            if left < 5:
                line = f'{step.name:32s} NOT RUN: no time left'
            else:
                limit = min(step.seconds * args.patience, left)
                line = run_step(step, args.out.resolve(), limit)
            failed += 'FAILED' in line or 'out of time' in line
            print(line, flush=True)
            print(line, file=summary, flush=True)
    return min(failed, 1)


if __name__ == '__main__':
    sys.exit(main())
