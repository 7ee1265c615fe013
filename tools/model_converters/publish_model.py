# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Make a folder of a model that strangers can load, for the Hub or a disk.

Writes the weights alone as safetensors, the config as JSON, the files of the
tokenizer and a model card. Optimizer and history are left out.

Examples:
    python tools/model_converters/publish_model.py work_dirs/x/epoch_6.pth out
    python tools/model_converters/publish_model.py r50.pth out \
        --config referformer_r50_ytvos
"""

import argparse
from pathlib import Path
from typing import Any

from referformer.utils.cli import prepare_output, run

METAFILE = Path(__file__).parents[2] / 'configs/metafile.yml'


def entry_of(name: str | None) -> dict[str, Any]:
    """Return what the metafile says about a config, nothing if it is new."""
    import yaml

    if not METAFILE.is_file():
        return {}
    models = yaml.safe_load(METAFILE.read_text('utf-8'))['Models']
    return next((m for m in models if m['Name'] == name), {})


def main(argv: list[str] | None = None) -> None:
    """Publish what the command line names."""
    parser = argparse.ArgumentParser(
        description='Write a model as a folder that strangers can load.'
    )
    parser.add_argument('checkpoint', help='checkpoint of a training')
    parser.add_argument('out', type=Path, help='new folder')
    parser.add_argument(
        '--config',
        help='config file, or name of a config (default: the one in the '
        'checkpoint)',
    )
    parser.add_argument(
        '--name',
        help='entry of configs/metafile.yml whose results the card shows '
        '(default: that of the config)',
    )
    parser.add_argument(
        '--half',
        action='store_true',
        help='store the weights in float16, in half the space',
    )
    parser.add_argument(
        '--entry',
        type=Path,
        help='JSON file that describes these very weights for the card, as '
        'an entry of configs/metafile.yml does',
    )
    args = parser.parse_args(argv)
    # in the folder above, since this one must stay empty
    prepare_output(args.out.parent / 'errors.log', 'OUT')

    from referformer.apis.release import publish
    from referformer.formats.text_files import read_json

    out = publish(
        args.checkpoint,
        args.out,
        args.config,
        entry_of,
        args.name,
        half=args.half,
        entry=None if args.entry is None else read_json(args.entry),
    )
    for path in sorted(out.rglob('*')):
        if path.is_file():
            size = path.stat().st_size / 1e6
            print(f'{path}: {size:.1f} MB')
    print(
        f"Try it: ReferInferencer.from_pretrained('{out}')\n"
        f'Upload it: hf upload OWNER/REPO {out}'
    )


if __name__ == '__main__':
    run(main)
