# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""RefCOCO, RefCOCO+ and RefCOCOg."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from pycocotools import mask as mask_utils

from referformer.datasets.doctor.frames import (
    Task,
    check_text,
    image_size,
    is_plain_name,
    read_json,
)
from referformer.datasets.doctor.report import Observation, Report
from referformer.formats.coco import to_rle

TITLE = 'RefCOCO, RefCOCO+ and RefCOCOg'
DATASET = 'RefCOCODataset'
#: Sentences in the full sets.
FULL = {
    'refcoco_train': 120624,
    'refcoco_val': 10834,
    'refcoco_testA': 5657,
    'refcoco_testB': 5095,
    'refcoco+_train': 120191,
    'refcoco+_val': 10758,
    'refcoco+_testA': 5726,
    'refcoco+_testB': 4889,
    'refcocog_train': 80512,
    'refcocog_val': 4896,
    'refcocog_test': 9602,
    'refcocog-google_train': 85474,
    'refcocog-google_val': 9536,
}
SPLITS = tuple(FULL)
#: Ways of splitting by object, so that images are in several splits.
BY_OBJECT = ('refcocog-google',)
#: Pixels by which polygons and boxes may reach out of the image.
_MARGIN = 2.0
_CHUNK = 32


class Split(NamedTuple):
    """Files of a split, relative to the root.

    Attributes:
        name (str): ``<set>_<split>``, as in the name of the file.
        ann_file (str): One image entry a sentence.
        img_dir (str): Images.
        official (bool): Whether numbers are compared with the full set.
    """

    name: str
    ann_file: str
    img_dir: str
    official: bool = True

    @property
    def set(self) -> str:
        """Set and way of splitting it, such as ``refcocog-google``."""
        return self.name.rpartition('_')[0]

    @property
    def train(self) -> bool:
        """Whether it is trained on."""
        return self.name.endswith('_train')


class Picture(NamedTuple):
    """An image and what is annotated in it.

    Attributes:
        path (Path): The file.
        sizes (dict[tuple[int, int], str]): Height and width according to
            which file.
        objects (dict[str, tuple[str, Any, Any]]): Annotations that differ:
            where, segmentation, box, size of the image.
        quick (bool): Read the size only.
    """

    path: Path
    sizes: dict[tuple[int, int], str]
    objects: dict[str, tuple[str, Any, Any, tuple[int, int]]]
    quick: bool


def standard_split(root: Path, name: str) -> Split:
    """A split in the place where the converter puts it."""
    folder = name.rpartition('_')[0].removesuffix('-google')
    return Split(name, f'{folder}/instances_{name}.json', 'train2014')


def config_split(root: Path, config: Mapping[str, Any]) -> list[Split]:
    """The splits that a dataset config describes."""
    files = config['ann_file']
    prefix = config.get('data_prefix') or {'img': 'train2014'}
    return [
        Split(
            Path(file).stem.removeprefix('instances_'),
            file,
            prefix['img'],
            official=False,
        )
        for file in ([files] if isinstance(files, str) else files)
    ]


def find_download(root: Path) -> Path | None:
    """What is there if the set was not converted."""
    return next(root.glob('ref*/refs(*).p'), None)


def check(
    root: Path, splits: Sequence[Split], report: Report, quick: bool
) -> Iterator[Task]:
    """Look at the tables, and yield the images to be looked at.

    Args:
        root (Path): Folder of the images and the sets.
        splits (Sequence[Split]): What to look at.
        report (Report): Where to note what is found.
        quick (bool): Do not decode the images.

    Yields:
        Task: Some images.
    """
    for folder in sorted({split.img_dir for split in splits}):
        if not (root / folder).is_dir():
            report.add('folder-missing', root / folder)
    pictures: dict[Path, Picture] = {}
    shown: dict[Split, set[str]] = {}
    for split in splits:
        shown[split] = _check_split(root, split, pictures, report, quick)
    _check_overlap(root, shown, report)
    report.count('images', len(pictures))
    present: dict[Path, set[str]] = {}
    for path in pictures:
        if path.parent not in present:
            folder = path.parent
            present[folder] = (
                {p.name for p in folder.iterdir()} if folder.is_dir() else {}
            )
    there = []
    for path, picture in pictures.items():
        if path.name in present[path.parent]:
            there.append(picture)
        elif present[path.parent]:
            report.add('image-missing', path)
    rest = iter(there)
    while chunk := list(islice(rest, _CHUNK)):
        yield Task(_check_pictures, chunk, len(chunk))


def _check_split(
    root: Path,
    split: Split,
    pictures: dict[Path, Picture],
    report: Report,
    quick: bool,
) -> set[str]:
    """Look at a file; return the names of its images."""
    path = root / split.ann_file
    content = read_json(path, report, 'file-missing')
    if content is None:
        return set()
    tables = [
        content.get(key) if isinstance(content, dict) else None
        for key in ('images', 'annotations')
    ]
    if not all(
        isinstance(table, list) and all(isinstance(e, dict) for e in table)
        for table in tables
    ):
        report.add('table-wrong', path, 'no lists "images" and "annotations"')
        return set()
    images, annotations = tables
    _check_numbers(split, images, path, report)
    meant: dict[Any, dict] = {}
    for annotation in annotations:
        number = annotation.get('image_id')
        if not isinstance(number, int | str):
            report.add('table-wrong', path, f'image_id {number!r}')
            continue
        if number in meant:
            text = f'sentence {number} has several annotations'
            report.add('annotation-mismatch', path, text)
        meant[number] = annotation
    report.count('sentences', len(images))
    names, ids = set(), set()
    for image in images:
        number, name = image.get('id'), image.get('file_name')
        where = f'sentence {number}'
        if not isinstance(number, int | str):
            report.add('table-wrong', path, f'id {number!r}')
            continue
        if number in ids:
            report.add('sentence-id-repeated', path, where)
        ids.add(number)
        if not is_plain_name(name):
            report.add('name-unsafe', path, f'{where}: image {name!r}')
            continue
        names.add(name)
        _check_sentence(image, split, path, where, report)
        annotation = meant.get(number)
        if annotation is None:
            text = f'{where} has no annotation'
            report.add('annotation-mismatch', path, text)
            continue
        size = (image.get('height'), image.get('width'))
        if not all(type(side) is int and side > 0 for side in size):
            report.add('table-wrong', path, f'{where}: height, width {size}')
            continue
        picture = pictures.setdefault(
            root / split.img_dir / name,
            Picture(root / split.img_dir / name, {}, {}, quick),
        )
        picture.sizes.setdefault(size, f'{path}: {where}')
        key = str(annotation.get('original_id', (split.name, number)))
        picture.objects.setdefault(
            key,
            (
                f'{where} in {name}',
                annotation.get('segmentation'),
                annotation.get('bbox'),
                size,
            ),
        )
    for number in sorted(set(meant) - ids, key=str):
        text = f'an annotation is of sentence {number}, which is not there'
        report.add('annotation-mismatch', path, text)
    return names


def _check_numbers(
    split: Split, images: Sequence[dict], path: Path, report: Report
) -> None:
    """Compare the number of sentences with that of the full sets."""
    number = len(images)
    full = FULL.get(split.name)
    other = next(
        (name for name, count in FULL.items() if count == number), None
    )
    if number != full and other is not None and full is not None:
        report.add('set-mixed', path, f'{number} sentences, as {other}')
    elif split.official and full not in (None, number):
        report.add('count-differs', path, f'{number} sentences of {full}')


def _check_sentence(
    image: dict, split: Split, path: Path, where: str, report: Report
) -> None:
    """Look at the entry of a sentence."""
    code = check_text(image.get('caption'))
    if code == 'expression-empty' and isinstance(image.get('caption'), str):
        code = 'sentence-blank'
    if code is not None:
        report.add(code, path, f'{where}: {image.get("caption")!r}')
    digits = re.search(r'_(\d+)\.\w+$', image['file_name'])
    original = image.get('original_id')
    if digits and original is not None and int(digits[1]) != original:
        text = f'{where}: {image["file_name"]}, original_id {original}'
        report.add('image-id-mismatch', path, text)
    said = image.get('dataset_name')
    known = {name.rpartition('_')[0] for name in FULL}
    if said in known and said != split.set.removesuffix('-google'):
        report.add('set-mixed', path, f'{where} is of {said}')


def _check_overlap(
    root: Path, shown: Mapping[Split, set[str]], report: Report
) -> None:
    """Look for images that are both trained on and tested."""
    for train, images in shown.items():
        if not train.train:
            continue
        for test, others in shown.items():
            both = images & others
            if test.train or not both:
                continue
            text = f'{len(both)} images also in {train.name}, {min(both)}'
            path = root / test.ann_file
            if train.set != test.set:
                report.add('sets-overlap', path, text)
            elif train.set not in BY_OBJECT:
                report.add('split-overlap', path, text)


def _check_pictures(pictures: Sequence[Picture]) -> list[Observation]:
    """Look at some images and what is annotated in them."""
    return [o for picture in pictures for o in _check_picture(picture)]


def _check_picture(picture: Picture) -> Iterator[Observation]:
    """Look at an image and what is annotated in it."""
    try:
        if picture.quick:
            with Image.open(picture.path) as image:
                size = image.size[::-1]
        else:
            size = image_size(picture.path.read_bytes())
    except OSError as error:
        yield Observation('image-broken', str(picture.path), str(error))
        return
    for said, where in picture.sizes.items():
        if said != size:
            text = (
                f'{size[1]} x {size[0]}, but {said[1]} x {said[0]} in {where}'
            )
            yield Observation('image-size-differs', str(picture.path), text)
    for where, segmentation, box, said in picture.objects.values():
        path = str(picture.path)
        for code, detail in _check_object(segmentation, box, *said):
            yield Observation(code, path, f'{where}{detail}')


def _check_object(
    segmentation: Any, box: Any, height: int, width: int
) -> Iterator[tuple[str, str]]:
    """Look at an annotation; yield codes and details."""
    try:
        rle = to_rle(segmentation, height, width)
    except ValueError as error:
        yield 'segmentation-broken', f' {error}'
    else:
        if not mask_utils.area(rle):
            yield 'mask-empty', ''
        limits = (width + _MARGIN, height + _MARGIN)
        for polygon in segmentation if isinstance(segmentation, list) else ():
            for values, limit in zip(
                (polygon[::2], polygon[1::2]), limits, strict=True
            ):
                if min(values) < -_MARGIN or max(values) > limit:
                    yield 'polygon-outside', ''
    numbers = isinstance(box, list) and [
        value for value in box if isinstance(value, int | float)
    ]
    if (
        not numbers
        or len(box) != 4
        or numbers != box
        or not all(-1e9 < value < 1e9 for value in box)
        or min(box[2:]) <= 0
    ):
        yield 'box-wrong', f': {box}'
