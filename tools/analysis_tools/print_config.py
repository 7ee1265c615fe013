# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Print a config as the runner sees it, with everything it inherits.

Examples:
    python tools/analysis_tools/print_config.py CONFIG
    python tools/analysis_tools/print_config.py CONFIG --key model.backbone
"""

import argparse
from typing import TYPE_CHECKING

from referformer.errors import ConfigError
from referformer.utils.cli import add_cfg_options, run

if TYPE_CHECKING:
    from mmengine.config import Config


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description='Print a config with everything it inherits.'
    )
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--key', help='only this part, keys dotted: model.head.criterion'
    )
    add_cfg_options(parser)
    return parser.parse_args(argv)


def select(cfg: 'Config', key: str) -> 'Config':
    """Cut a part out of a config."""
    from mmengine.config import Config, ConfigDict

    part = cfg._cfg_dict
    for name in key.split('.'):
        if not isinstance(part, ConfigDict) or name not in part:
            raise ConfigError(
                f'{cfg.filename} has no {key!r}: {name!r} is missing.',
                file=cfg.filename,
                value=key,
            )
        part = part[name]
    return Config({key.rsplit('.', 1)[-1]: part})


def main(argv: list[str] | None = None) -> None:
    """Print the config."""
    args = parse_args(argv)

    from referformer.utils.launch import load_config

    cfg = load_config(args.config, args.cfg_options)
    print((select(cfg, args.key) if args.key else cfg).pretty_text)


if __name__ == '__main__':
    run(main)
