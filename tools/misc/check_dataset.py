# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Look at a data set before training does: what is missing, broken, odd?

python tools/misc/check_dataset.py ref-youtube-vos data/ref-youtube-vos
python tools/misc/check_dataset.py configs/referformer_r50_ytvos.py
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from referformer.datasets.doctor import (
    KINDS,
    Report,
    check_dataset,
    load_kind,
    standard_splits,
)
from referformer.errors import DataError
from referformer.formats.files import write_atomic
from referformer.utils.parallel import count_cores


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Find what is missing, broken or suspicious in a data '
        'set.',
        epilog='exit status: 0 = usable, perhaps with remarks; 1 = training '
        'or scoring would be wrong; 2 = wrong command line.',
    )
    parser.add_argument(
        'what',
        metavar='CONFIG_OR_KIND',
        help=f'a config file, or one of {", ".join(KINDS)}',
    )
    parser.add_argument(
        'root',
        type=Path,
        nargs='?',
        metavar='ROOT',
        help='folder of the data set (default: that of the config)',
    )
    parser.add_argument(
        '--splits',
        nargs='+',
        metavar='SPLIT',
        help='splits that must be there and are looked at (default: all that '
        'are there); not with a config, which names its own',
    )
    parser.add_argument(
        '--jobs',
        type=int,
        default=count_cores(),
        metavar='N',
        help='processes (default: one a core, here %(default)s)',
    )
    parser.add_argument(
        '--quick',
        action='store_true',
        help='look whether all files are there, but decode only the first '
        'frame of each video',
    )
    parser.add_argument(
        '--out', type=Path, metavar='REPORT.json', help='write a report'
    )
    args = parser.parse_args(argv)
    if args.jobs < 1:
        parser.error(f'--jobs is {args.jobs}; it must be at least 1')
    if args.what in KINDS:
        if args.root is None:
            parser.error(f'{args.what} needs the ROOT of the data set')
        known = load_kind(args.what).SPLITS
        unknown = [name for name in args.splits or () if name not in known]
        if unknown:
            parser.error(
                f'{args.what} has no split {unknown[0]!r}; '
                f'choose from {", ".join(known)}'
            )
    elif not Path(args.what).is_file():
        parser.error(
            f'{args.what} is neither a file nor one of {", ".join(KINDS)}'
        )
    elif args.splits:
        parser.error('a config names its splits; leave --splits out')
    if args.root is not None and not args.root.is_dir():
        parser.error(f'{args.root} is not a folder')
    return args


def find_datasets(config: Any) -> Iterator[Mapping]:
    """Yield the configs of the data sets within one of a wrapper."""
    if not isinstance(config, Mapping):
        return
    if 'ann_file' in config:
        yield config
        return
    for inner in [config.get('dataset'), *config.get('datasets', ())]:
        yield from find_datasets(inner)


def plan_config(
    path: str, root: Path | None
) -> list[tuple[str, Path, list[Any]]]:
    """Return kind, root and splits of each data set of a config.

    Raises:
        ValueError: If there is none that can be looked at.
    """
    try:
        config = Config.fromfile(path)
    except (OSError, SyntaxError, ImportError) as error:
        raise ValueError(f'{path} is no config: {error}') from error
    kinds = {load_kind(kind).DATASET: kind for kind in KINDS}
    plan: dict[tuple[str, Path], list[Any]] = {}
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = config.get(name) or {}
        for dataset in find_datasets(loader.get('dataset')):
            kind = kinds.get(str(dataset['type']).rsplit('.', 1)[-1])
            if kind is None:
                raise ValueError(
                    f'{path}: {dataset["type"]} of {name} is not known here; '
                    f'only {", ".join(kinds)} are.'
                )
            folder = Path(dataset.get('data_root') or '.')
            splits = plan.setdefault((kind, folder), [])
            module = load_kind(kind)
            for split in module.config_split(root or folder, dataset):
                if split not in splits:
                    splits.append(split)
    if not plan:
        raise ValueError(f'{path} configures no data set.')
    if root is not None and len({folder for _, folder in plan}) > 1:
        raise ValueError(
            f'{path} has data in several folders; leave ROOT out, and look '
            'at each by its kind.'
        )
    return [
        (kind, root or folder, splits)
        for (kind, folder), splits in plan.items()
    ]


def main(argv: list[str] | None = None) -> int:
    """Look at the data.

    Returns:
        int: Exit status, see the help.
    """
    args = parse_args(argv)
    reports = []
    try:
        if args.what in KINDS:
            module = load_kind(args.what)
            report = Report(module.TITLE, args.root)
            splits = standard_splits(args.what, args.root, args.splits, report)
            plan = [(args.what, args.root, splits, report)]
        else:
            plan = [
                (kind, root, splits, Report(load_kind(kind).TITLE, root))
                for kind, root, splits in plan_config(args.what, args.root)
            ]
        for kind, root, splits, report in plan:
            if root.is_dir():
                check_dataset(
                    kind, root, splits, report, args.jobs, args.quick
                )
            else:
                report.add('folder-missing', root)
            reports.append(report)
            print(report.text())
            print()
    except KeyboardInterrupt:
        print('\ncheck_dataset.py: interrupted', file=sys.stderr)
        return 130
    except DataError as error:
        print(f'check_dataset.py: error: {error}', file=sys.stderr)
        return 1
    except ValueError as error:
        if reports or args.what in KINDS:
            raise
        print(f'check_dataset.py: error: {error}', file=sys.stderr)
        return 2
    if args.out is not None:
        text = ',\n'.join(report.json() for report in reports)
        text = f'[\n{text}\n]\n'
        write_atomic(args.out, text)
        print(f'written to {args.out}')
    return int(any(report.failed for report in reports))


if __name__ == '__main__':
    sys.exit(main())
