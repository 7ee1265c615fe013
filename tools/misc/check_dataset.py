# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Check a data set before training does: what is missing, broken, odd?

python tools/misc/check_dataset.py configs/referformer_r50_ytvos.py
python tools/misc/check_dataset.py ref-youtube-vos data/ref-youtube-vos
"""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DefaultScope

from referformer.datasets.doctor import (
    KINDS,
    Report,
    Source,
    check_datasets,
    list_sources,
)
from referformer.errors import ConfigError
from referformer.formats.files import write_atomic
from referformer.utils.cli import (
    add_former_name,
    current_set_name,
    prepare_output,
    run,
)
from referformer.utils.configs import read_config
from referformer.utils.launch import require_model
from referformer.utils.parallel import count_cores

CONFIGS = Path(__file__).parents[2] / 'configs/_base_/datasets'
LOADERS = ('train', 'val', 'test')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Find what is missing, broken or suspicious in a data '
        'set, by reading all of it with its own transforms.',
        epilog='exit status: 0 = usable, perhaps with remarks; 1 = training '
        'or scoring would be wrong; 2 = wrong command line or config.',
    )
    parser.add_argument(
        'what',
        type=current_set_name,
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
    split = parser.add_argument(
        '--split',
        dest='splits',
        nargs='+',
        metavar='SPLIT',
        help='what to check: dataloaders of a config (train, val, test), or '
        'splits of a kind, which must be there (default: all that are there)',
    )
    add_former_name(parser, '--splits', split)
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
        help='check whether all files are there, but decode only one frame '
        'of each video',
    )
    parser.add_argument(
        '--out', type=Path, metavar='REPORT.json', help='write a report'
    )
    args = parser.parse_args(argv)
    if args.jobs < 1:
        parser.error(f'--jobs is {args.jobs}; it must be at least 1')
    known = LOADERS
    if args.what in KINDS:
        if args.root is None:
            parser.error(f'{args.what} needs the ROOT of the data set')
        known = tuple(KINDS[args.what].full)
    elif not Path(args.what).is_file():
        parser.error(
            f'{args.what} is neither a file nor one of {", ".join(KINDS)}'
        )
    unknown = [name for name in args.splits or () if name not in known]
    if unknown:
        parser.error(
            f'{args.what} has no split {unknown[0]!r}; '
            f'choose from {", ".join(known)}'
        )
    if args.root is not None and not args.root.is_dir():
        parser.error(f'{args.root} is not a folder')
    return args


def find_datasets(config: Any) -> Iterator[dict]:
    """Yield the configs of the datasets within one of a wrapper."""
    if not isinstance(config, Mapping):
        return
    inner = [config.get('dataset'), *config.get('datasets', ())]
    if inner == [None] and 'type' in config:
        yield dict(config)
    for part in inner:
        yield from find_datasets(part)


def plan_config(
    path: str, root: Path | None, names: list[str] | None
) -> list[tuple[Report, list[Source]]]:
    """Return the datasets of a config by folder, each with its report.

    Raises:
        ConfigError: If there is none.
    """
    config = read_config(path)
    if 'model' in config:
        require_model(path, config)
    # the first edition of a set, where both have one class
    titles = {
        dataset: kind.title
        for kind in reversed(KINDS.values())
        for dataset in kind.datasets
    }
    plan: dict[tuple[str, Path], list[Source]] = {}
    for name in names or LOADERS:
        loader = config.get(f'{name}_dataloader') or {}
        for dataset in find_datasets(loader.get('dataset')):
            kind = str(dataset['type']).rsplit('.', 1)[-1]
            folder = Path(dataset.get('data_root') or '.')
            sources = plan.setdefault((titles.get(kind, kind), folder), [])
            if root is not None:
                dataset['data_root'] = f'{root}/'
            if not any(source.config == dataset for source in sources):
                sources.append(Source(name, dataset))
    if not plan:
        raise ConfigError(f'{path} configures no data set.', file=path)
    if root is not None and len({folder for _, folder in plan}) > 1:
        raise ConfigError(
            f'{path} has data in several folders; leave ROOT out, and check '
            'each by its kind.',
            file=path,
        )
    return [
        (Report(title, root or folder), sources)
        for (title, folder), sources in plan.items()
    ]


def plan_kind(
    kind_name: str, root: Path, names: list[str] | None
) -> list[tuple[Report, list[Source]]]:
    """Return the splits of a known set and their report."""
    kind = KINDS[kind_name]
    report = Report(kind.title, root)
    config = Config.fromfile(CONFIGS / f'{kind_name}.py')
    return [(report, list_sources(kind, config, root, names, report))]


def main(argv: list[str] | None = None) -> int:
    """Check the data.

    Returns:
        Exit status, see the help.

    Raises:
        ReferError: Of the command line, the config or a package.
    """
    args = parse_args(argv)
    if args.out is not None:
        prepare_output(args.out, '--out')
    plan_it = plan_kind if args.what in KINDS else plan_config
    reports = []
    for report, sources in plan_it(args.what, args.root, args.splits):
        with DefaultScope.overwrite_default_scope('referformer'):
            check_datasets(sources, report, args.jobs, args.quick)
        reports.append(report)
        print(f'{report.text()}\n')
    if args.out is not None:
        text = ',\n'.join(report.json() for report in reports)
        write_atomic(args.out, f'[\n{text}\n]\n')
        print(f'written to {args.out}')
    return int(any(report.failed for report in reports))


if __name__ == '__main__':
    run(main, setting_status=2)
