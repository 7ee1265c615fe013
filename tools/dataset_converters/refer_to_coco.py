# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Turn RefCOCO, RefCOCO+ and RefCOCOg into COCO-style JSON files.

ROOT holds, for each set, the extracted archive of
https://github.com/lichengunc/refer: <set>/instances.json and
<set>/refs(<who split it>).p. For each split of each of them there will be
<set>/instances_<set>_<split>.json in OUT, with one image entry per sentence.
The split of RefCOCOg by Google is named refcocog-google.
"""

import argparse
import json
import sys
from pathlib import Path

from tqdm import tqdm

from referformer.errors import DataError, MissingDataError
from referformer.formats.files import write_atomic
from referformer.formats.refcoco import (
    NUM_SENTENCES,
    read_instances,
    read_refs,
)
from referformer.utils.cli import run

#: Set, as files call it -> who split it, and its splits.
SOURCES = {
    'refcoco': ('unc', ('train', 'val', 'testA', 'testB')),
    'refcoco+': ('unc', ('train', 'val', 'testA', 'testB')),
    'refcocog': ('umd', ('train', 'val', 'test')),
    'refcocog-google': ('google', ('train', 'val')),
}


def find_files(root: Path, name: str) -> tuple[Path, Path]:
    """Return where the referred objects and the instances of a set are."""
    folder = root / name.removesuffix('-google')
    return folder / f'refs({SOURCES[name][0]}).p', folder / 'instances.json'


def convert(name: str, refs: list[dict], instances: dict) -> dict[str, dict]:
    """Return the content of the file of each split.

    Args:
        name: Key of :data:`SOURCES`.
        refs: Referred objects.
        instances: Images and annotations.

    Raises:
        DataError: If something is missing or contradictory.
    """
    images = {image['id']: image for image in instances['images']}
    annotations = {entry['id']: entry for entry in instances['annotations']}
    splits: dict[str, dict] = {
        split: {
            'info': instances.get('info', ''),
            'licenses': instances.get('licenses', ''),
            'images': [],
            'annotations': [],
            'categories': instances.get('categories', []),
        }
        for split in SOURCES[name][1]
    }
    kept = ('segmentation', 'area', 'iscrowd', 'bbox', 'category_id')
    for ref in tqdm(refs, desc=name, unit='objects', disable=None):
        try:
            split = splits[ref['split']]
            image = images[ref['image_id']]
            annotation = annotations[ref['ann_id']]
            for sentence in ref['sentences']:
                if not isinstance(sentence['sent'], str):
                    raise TypeError(f'{sentence["sent"]!r} is no sentence')
                number = len(split['images']) + 1
                split['images'].append(
                    {
                        'file_name': image['file_name'],
                        'height': image['height'],
                        'width': image['width'],
                        'original_id': image['id'],
                        'id': number,
                        'caption': sentence['sent'],
                        'dataset_name': name.removesuffix('-google'),
                        'ref_id': ref['ref_id'],
                        'sent_id': sentence['sent_id'],
                    }
                )
                split['annotations'].append(
                    {
                        **{key: annotation[key] for key in kept},
                        'image_id': number,
                        'id': number,
                        'original_id': annotation['id'],
                    }
                )
        except (KeyError, TypeError) as error:
            which = ref.get('ref_id') if isinstance(ref, dict) else ref
            lack = ' is missing' if isinstance(error, KeyError) else ''
            raise DataError(
                f'{name}: referred object {which} cannot be converted '
                f'({type(error).__name__}: {error}{lack}); are '
                f'refs({SOURCES[name][0]}).p and instances.json of '
                'one archive?'
            ) from error
        if annotation['image_id'] != ref['image_id']:
            raise DataError(
                f'{name}: annotation {ref["ann_id"]} is of image '
                f'{annotation["image_id"]}, but referred object '
                f'{ref["ref_id"]} is in {ref["image_id"]}; the files do not '
                'belong together.'
            )
    return splits


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'root', type=Path, help='folder of refcoco, refcoco+ and refcocog'
    )
    parser.add_argument(
        '--out', type=Path, help='where to write (default: ROOT)'
    )
    parser.add_argument(
        '--sets',
        nargs='+',
        choices=list(SOURCES),
        help='what to convert (default: whatever ROOT has)',
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Convert the sets and report their sizes."""
    args = parse_args(argv)
    out = args.out or args.root
    there = [
        name for name in SOURCES if find_files(args.root, name)[0].is_file()
    ]
    if not (args.sets or there):
        raise MissingDataError(
            f'{args.root} has neither refcoco, refcoco+ nor refcocog with '
            'refs(...).p in it; docs/datasets/refcoco.md shows the expected '
            'folders.'
        )
    unexpected = []
    for name in args.sets or there:
        refs, instances = find_files(args.root, name)
        splits = convert(name, read_refs(refs), read_instances(instances))
        for split, content in splits.items():
            path = (
                out / instances.parent.name / f'instances_{name}_{split}.json'
            )
            write_atomic(path, json.dumps(content))
            number = len(content['images'])
            note, wanted = '', NUM_SENTENCES[f'{name}_{split}']
            if number != wanted:
                note = f', published: {wanted}'
                unexpected.append(path.name)
            print(f'{path}: {number} sentences{note}')
    if unexpected:
        print(
            f'{len(unexpected)} files differ in size from the published sets '
            f'({", ".join(unexpected)}); scores on them are not comparable.',
            file=sys.stderr,
        )


if __name__ == '__main__':
    run(main)
