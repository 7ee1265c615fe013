# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Print a config as the runner sees it, with everything it inherits.

Examples:
    python tools/analysis_tools/print_config.py CONFIG
    python tools/analysis_tools/print_config.py CONFIG --key model.backbone
"""

import argparse
import sys
from pathlib import Path

from mmengine.config import Config, ConfigDict, DictAction


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line.

    Args:
        argv (list[str], optional): Arguments. Defaults to None: sys.argv.

    Returns:
        argparse.Namespace: The options.
    """
    parser = argparse.ArgumentParser(
        description='Print a config with everything it inherits.'
    )
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--key', help='only this part, keys dotted: model.head.criterion'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='override settings, key=value',
    )
    args = parser.parse_args(argv)
    if not Path(args.config).is_file():
        parser.error(f'{args.config} is not a file; give a config.')
    return args


def select(cfg: Config, key: str) -> Config:
    """Cut a part out of a config.

    Args:
        cfg (Config): The config.
        key (str): Dotted key.

    Returns:
        Config: Only that part, under the last word of the key.

    Raises:
        KeyError: If there is no such part.
    """
    part = cfg._cfg_dict
    for name in key.split('.'):
        if not isinstance(part, ConfigDict) or name not in part:
            raise KeyError(f'the config has no {key!r}: {name!r} is missing')
        part = part[name]
    return Config({key.rsplit('.', 1)[-1]: part})


def main(argv: list[str] | None = None) -> None:
    """Print the config.

    Args:
        argv (list[str], optional): Arguments. Defaults to None: sys.argv.
    """
    args = parse_args(argv)
    cfg = Config.fromfile(args.config)
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    if args.key:
        try:
            cfg = select(cfg, args.key)
        except KeyError as error:
            sys.exit(error.args[0])
    print(cfg.pretty_text)


if __name__ == '__main__':
    main()
