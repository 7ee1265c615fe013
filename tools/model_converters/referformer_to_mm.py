# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Convert the authors' checkpoints into this package's layout, or back.

Examples:
    python tools/model_converters/referformer_to_mm.py ytvos_r50.pth r50.pth
    python tools/model_converters/referformer_to_mm.py --reverse a.pth b.pth
"""

import argparse
from pathlib import Path

from referformer.utils.cli import prepare_output, run


def main(argv: list[str] | None = None) -> None:
    """Convert what the command line names."""
    parser = argparse.ArgumentParser(
        description='Convert published ReferFormer weights (any backbone).'
    )
    parser.add_argument(
        'src',
        type=Path,
        help='checkpoint to read, a file or hf://owner/repo/file.safetensors',
    )
    parser.add_argument('dst', type=Path, help='checkpoint to write')
    parser.add_argument(
        '--reverse',
        action='store_true',
        help="write the authors' layout from one of this package",
    )
    args = parser.parse_args(argv)
    prepare_output(args.dst, 'DST')

    from referformer.checkpoints.convert import convert_file

    count = convert_file(args.src, args.dst, args.reverse)
    print(f'{args.dst}: {count} tensors')


if __name__ == '__main__':
    run(main)
