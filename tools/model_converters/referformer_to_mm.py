# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Convert the authors' checkpoints into this package's layout, or back.

Examples:
    python tools/model_converters/referformer_to_mm.py ytvos_r50.pth r50.pth
    python tools/model_converters/referformer_to_mm.py --reverse a.pth b.pth
"""

import argparse
from pathlib import Path


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line.

    Args:
        argv (list[str], optional): Arguments; ``sys.argv`` when None.

    Returns:
        argparse.Namespace: The options.
    """
    parser = argparse.ArgumentParser(
        description='Convert published ReferFormer weights (any backbone).'
    )
    parser.add_argument('src', type=Path, help='checkpoint to read')
    parser.add_argument('dst', type=Path, help='checkpoint to write')
    parser.add_argument(
        '--reverse',
        action='store_true',
        help="write the authors' layout from one of this package",
    )
    return parser.parse_args(argv)


def convert(src: Path, dst: Path, reverse: bool = False) -> int:
    """Convert one file.

    Args:
        src (Path): Checkpoint to read; only tensors and the authors'
            argument namespace are unpickled.
        dst (Path): Checkpoint to write, through a temporary name.
        reverse (bool): From our layout to the authors'.

    Returns:
        int: Number of tensors written.

    Raises:
        CheckpointError: If ``src`` is unreadable or unsafe.
        KeyError: Naming every parameter without a place, or the missing
            top-level entry.
        ValueError: If no known backbone is among the parameters.
        OSError: If ``src`` is missing or ``dst`` cannot be written.
    """
    import torch

    from referformer.checkpoints.io import load_checkpoint_safely
    from referformer.checkpoints.published import (
        from_published,
        to_published,
    )
    from referformer.formats.files import atomic_path

    checkpoint = load_checkpoint_safely(
        src, extra_safe_globals=[argparse.Namespace]
    )
    entry, convert_dict = (
        ('state_dict', to_published) if reverse else ('model', from_published)
    )
    if entry not in checkpoint:
        other = 'model' if reverse else 'state_dict'
        hint = ''
        if other in checkpoint:
            action = 'leave out' if reverse else 'add'
            hint = f'; to convert the other way, {action} --reverse'
        owner = 'this package' if reverse else "the authors' code"
        raise KeyError(
            f'{src} is not a checkpoint of {owner}: it has no entry '
            f'{entry!r} but {sorted(checkpoint)}{hint}'
        )
    try:
        state_dict = convert_dict(checkpoint[entry])
    except (KeyError, ValueError) as error:
        raise type(error)(f'{src}: {error.args[0]}') from error
    content = (
        {'model': state_dict}
        if reverse
        else {'state_dict': state_dict, 'meta': {'converted_from': src.name}}
    )
    with atomic_path(dst) as temporary:
        torch.save(content, temporary)
    return len(state_dict)


def main(argv: list[str] | None = None) -> None:
    """Convert what the command line names.

    Args:
        argv (list[str], optional): Arguments; ``sys.argv`` when None.
    """
    args = parse_args(argv)
    from referformer.errors import CheckpointError

    try:
        count = convert(args.src, args.dst, args.reverse)
    except KeyError as error:  # its str() is quoted
        raise SystemExit(f'referformer_to_mm: {error.args[0]}') from None
    except (CheckpointError, ValueError, OSError) as error:
        raise SystemExit(f'referformer_to_mm: {error}') from None
    print(f'{args.dst}: {count} tensors')


if __name__ == '__main__':
    main()
