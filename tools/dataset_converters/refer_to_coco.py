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
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from referformer.errors import DataError, MissingDataError
from referformer.formats.files import write_atomic
from referformer.formats.refcoco import read_instances, read_refs


class Source(NamedTuple):
    """One way to split one set.

    Attributes:
        folder: Name of the set.
        split_by: Who split it.
        expected: Split -> number of sentences.
    """

    folder: str
    split_by: str
    expected: dict[str, int]


SOURCES = {
    'refcoco': Source(
        'refcoco',
        'unc',
        {'train': 120624, 'val': 10834, 'testA': 5657, 'testB': 5095},
    ),
    'refcoco+': Source(
        'refcoco+',
        'unc',
        {'train': 120191, 'val': 10758, 'testA': 5726, 'testB': 4889},
    ),
    'refcocog': Source(
        'refcocog', 'umd', {'train': 80512, 'val': 4896, 'test': 9602}
    ),
    'refcocog-google': Source(
        'refcocog', 'google', {'train': 85474, 'val': 9536}
    ),
}


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
        for split in SOURCES[name].expected
    }
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
                        'dataset_name': SOURCES[name].folder,
                        'ref_id': ref['ref_id'],
                        'sent_id': sentence['sent_id'],
                    }
                )
                split['annotations'].append(
                    {
                        'segmentation': annotation['segmentation'],
                        'area': annotation['area'],
                        'iscrowd': annotation['iscrowd'],
                        'bbox': annotation['bbox'],
                        'image_id': number,
                        'category_id': annotation['category_id'],
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
                f'refs({SOURCES[name].split_by}).p and instances.json of '
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


def find_sources(root: Path) -> list[str]:
    """Return the sets whose archives have been extracted.

    Raises:
        MissingDataError: If there is none.
    """
    found = [
        name
        for name, source in SOURCES.items()
        if (root / source.folder / f'refs({source.split_by}).p').is_file()
    ]
    if not found:
        raise MissingDataError(
            f'{root} has neither refcoco, refcoco+ nor refcocog with '
            'refs(...).p in it; docs/datasets/refcoco.md shows the expected '
            'folders.'
        )
    return found


def write_splits(
    name: str, splits: dict[str, dict], out: Path
) -> Iterator[tuple[Path, int]]:
    """Write the files of a set; yield each with its number of sentences."""
    for split, content in splits.items():
        file = f'instances_{name}_{split}.json'
        path = out / SOURCES[name].folder / file
        write_atomic(path, json.dumps(content))
        yield path, len(content['images'])


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


def run(args: argparse.Namespace) -> Any:
    """Convert the sets and report their sizes."""
    unexpected = []
    for name in args.sets or find_sources(args.root):
        source = SOURCES[name]
        folder = args.root / source.folder
        refs = read_refs(folder / f'refs({source.split_by}).p')
        instances = read_instances(folder / 'instances.json')
        splits = convert(name, refs, instances)
        for (path, number), wanted in zip(
            write_splits(name, splits, args.out or args.root),
            source.expected.values(),
            strict=True,
        ):
            note = '' if number == wanted else f', published: {wanted}'
            print(f'{path}: {number} sentences{note}')
            if note:
                unexpected.append(path.name)
    if unexpected:
        print(
            f'{len(unexpected)} files differ in size from the published sets '
            f'({", ".join(unexpected)}); scores on them compare with nothing.',
            file=sys.stderr,
        )


def main(argv: list[str] | None = None) -> None:
    """Convert the sets."""
    args = parse_args(argv)
    try:
        run(args)
    except (ValueError, OSError) as error:
        sys.exit(f'refer_to_coco: {error}')


if __name__ == '__main__':
    main()
