# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Write a model as graphs for other runtimes: ONNX, or torch.export.

Example:
    python tools/deployment/export.py referformer_r50_ytvos r50.pth r50_onnx
"""

import argparse
from pathlib import Path

from referformer.utils.cli import add_traceback, prepare_output, run


def main(argv: list[str] | None = None) -> None:
    """Export what the command line names."""
    parser = argparse.ArgumentParser(
        description='Write a model as three graphs (frames, text, decode), '
        'its tokenizer and model.json.'
    )
    parser.add_argument('config', help='config file, or name of a config')
    parser.add_argument(
        'checkpoint', help='its weights, a file or hf://owner/repo'
    )
    parser.add_argument('out', type=Path, help='new folder')
    parser.add_argument(
        '--format',
        choices=('onnx', 'torch-export'),
        default='onnx',
        help='onnx for any runtime (default); torch-export for PyTorch and '
        'what compiles its programs',
    )
    add_traceback(parser)
    args = parser.parse_args(argv)
    # in the folder above, since this one must stay empty
    prepare_output(args.out.parent / 'errors.log', 'OUT')

    from referformer.apis.export import export_model

    files = export_model(args.config, args.checkpoint, args.out, args.format)
    for path in files.values():
        print(f'{path}: {path.stat().st_size / 1e6:.1f} MB')
    if args.format == 'onnx':
        print(
            'Try it: python tools/deployment/run_onnx.py VIDEO "EXPRESSION" '
            f'--model {args.out} --out DIR'
        )


if __name__ == '__main__':
    run(main)
