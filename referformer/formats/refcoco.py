# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""RefCOCO, RefCOCO+ and RefCOCOg: as published, and one entry a sentence."""

import pickle
from collections.abc import Hashable
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from referformer.errors import DataError, report_error
from referformer.formats.coco import Box, is_id, read_box, read_tables
from referformer.formats.frames import is_relative_name
from referformer.formats.text_files import read_bytes, show

_ARCHIVE = 'docs/datasets/refcoco.md tells which archive to extract where'
#: Sentences of each published split.
NUM_SENTENCES = {
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


class RefCOCOSentence(NamedTuple):
    """A sentence about an image of COCO.

    Attributes:
        image_id: Its own id in the file.
        file_name: File of the image, relative to the folder of images.
        text: The sentence, possibly without words.
        obj_id: The annotation it means, the same for all sentences.
        segmentation: Polygons or run lengths; :func:`~.rle.to_rle` checks them
            where the size of the image is known.
        box: x1, y1, x2, y2 in pixels.
        crowd: Whether it means a crowd (``iscrowd``).
        shape: Height and width of the image according to the file, if it says
            so.
    """

    image_id: int | str
    file_name: str
    text: str
    obj_id: str
    segmentation: Any
    box: Box
    crowd: bool
    shape: tuple[int, int] | None


class PlainUnpickler(pickle.Unpickler):
    """Reads containers, text and numbers; refuses everything else.

    A pickle can name any function to be called while it is read. Those of
    the REFER sets name none.
    """

    def find_class(self, module: str, name: str) -> NoReturn:
        """Refuse to look up a class or function."""
        raise pickle.UnpicklingError(
            f'it asks for {module}.{name}, and could run code'
        )


def read_refs(path: str | Path) -> list[dict]:
    """Return the referred objects, each with its sentences.

    Raises:
        MissingDataError: If the file is missing.
        DataError: If it is no list of them.
    """
    content = read_bytes(path, remedy=_ARCHIVE)
    try:
        # written by Python 2, whose strings are bytes
        refs = PlainUnpickler(BytesIO(content), encoding='latin1').load()
    except Exception as error:
        raise DataError(
            f'{path} is not a pickle of plain data ({error})',
            file=path,
            remedy='download it again, from a source you trust.',
        ) from None
    if not isinstance(refs, list) or not refs:
        raise DataError(
            f'{path} holds no list of referred objects.', file=path
        )
    return refs


def read_instances(path: str | Path) -> dict:
    """Read ``instances.json`` of the REFER archives: COCO as published.

    Returns:
        The file; ``images`` and ``annotations`` are lists of entries with
        whole numbers as ids.

    Raises:
        MissingDataError: If it does not exist.
        DataError: If it is no annotation file of COCO.
    """
    content = read_tables(path, _ARCHIVE)
    for key in ('images', 'annotations'):
        if any(type(entry.get('id')) is not int for entry in content[key]):
            raise DataError(
                f'{path}: an entry of "{key}" has no whole number as "id"',
                file=path,
                remedy='extract it again.',
                code='table-wrong',
            )
    return content


def read_sentences(path: str | Path) -> list[RefCOCOSentence]:
    """Read a file with one image entry and one annotation per sentence.

    ``tools/dataset_converters/refer_to_coco.py`` writes them.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it is another file, or an entry is wrong.
    """
    content = read_tables(
        path, 'write it with tools/dataset_converters/refer_to_coco.py'
    )

    def fault(code: str, message: str) -> None:
        report_error(
            DataError(
                f'{path}: {message}',
                file=path,
                remedy='convert the set again.',
                code=code,
            )
        )

    meant: dict[Hashable, dict] = {}
    for entry in content['annotations']:
        name = entry.get('image_id')
        if not is_id(name):
            fault('table-wrong', f'an annotation has the image_id {name!r}')
            continue
        if name in meant:
            fault(
                'annotation-mismatch',
                f'sentence {name} has more than one annotation',
            )
        meant[name] = entry
    sentences, seen = [], set()
    for image in content['images']:
        name = image.get('id')
        if not is_id(name):
            fault('table-wrong', f'an image has the id {name!r}')
            continue
        if name in seen:
            fault('sentence-id-repeated', f'sentence {name} is there twice')
        seen.add(name)
        if name not in meant:
            fault('annotation-mismatch', f'sentence {name} has no annotation')
            continue
        try:
            sentences.append(_read_sentence(image, meant[name]))
        except DataError as error:
            fault(error.code, f'sentence {name} {error.message}')
    lost = [name for name in meant if name not in seen]
    if lost:
        fault(
            'annotation-mismatch',
            f'{len(lost)} annotations belong to no sentence, first to '
            f'{lost[0]!r}',
        )
    return sentences


def _read_sentence(image: dict, annotation: dict) -> RefCOCOSentence:
    """One sentence of :func:`read_sentences`."""
    file_name, text = image.get('file_name'), image.get('caption')
    if not is_relative_name(file_name):
        raise DataError(
            f'is about {show(file_name)}, which is not the name of a file',
            code='name-unsafe',
        )
    if not isinstance(text, str):
        raise DataError('has no text as "caption"', code='expression-empty')
    if 'segmentation' not in annotation:
        raise DataError("has no 'segmentation'", code='segmentation-broken')
    try:
        box = read_box(annotation.get('bbox'), 'xywh')
    except ValueError as error:
        raise DataError(str(error), code='box-wrong') from None
    obj_id = annotation.get('original_id', annotation.get('id'))
    if not is_id(obj_id):
        raise DataError('has an annotation without id', code='table-wrong')
    shape = (image.get('height'), image.get('width'))
    return RefCOCOSentence(
        image['id'],
        file_name,
        text,
        str(obj_id),
        annotation['segmentation'],
        box,
        bool(annotation.get('iscrowd')),
        shape if all(type(side) is int for side in shape) else None,
    )
