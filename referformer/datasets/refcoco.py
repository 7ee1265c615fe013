# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""RefCOCO, RefCOCO+ and RefCOCOg: images as clips of one frame."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from mmengine.logging import print_log

from referformer.datasets.base_refer_dataset import BaseReferDataset
from referformer.registry import DATASETS


def _read_annotations(path: Path) -> tuple[list[dict], list[dict]]:
    """Return the ``images`` and ``annotations`` of a converted file.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If it is no json or has no such lists.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f'{path} does not exist; write it with '
            'tools/dataset_converters/refer_to_coco.py.'
        )
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise ValueError(
            f'{path} is not valid json ({error}); convert the set again.'
        ) from error
    lists = [
        content.get(key) if isinstance(content, dict) else None
        for key in ('images', 'annotations')
    ]
    if not all(isinstance(entries, list) for entries in lists):
        raise ValueError(
            f'{path} has no lists "images" and "annotations"; it is not a '
            'file of tools/dataset_converters/refer_to_coco.py.'
        )
    return lists[0], lists[1]


def _parse_name(name: str) -> PurePosixPath:
    """Return the name of an image, after checking that it is one.

    Raises:
        ValueError: If it could lead out of the folder of the images.
    """
    path = PurePosixPath(name)
    if len(path.parts) != 1 or path.name in ('', '..') or '\\' in name:
        raise ValueError(f'{name!r} is not the plain name of a file')
    return path


def _parse_box(box: Any) -> list[float]:
    """Return x1, y1, x2, y2 of a box x, y, width, height.

    Raises:
        ValueError: If it is not four finite numbers.
    """
    numbers = [float(value) for value in box]
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        raise ValueError(f'the box {box} is not four finite numbers')
    x, y, width, height = numbers
    return [x, y, x + width, y + height]


@DATASETS.register_module()
class RefCOCODataset(BaseReferDataset):
    """RefCOCO, RefCOCO+ and RefCOCOg, one of them or several together.

    ::

        data_root/
        ├── train2014/COCO_train2014_<number>.jpg
        ├── refcoco/instances_refcoco_{train,val,testA,testB}.json
        ├── refcoco+/instances_refcoco+_{train,val,testA,testB}.json
        └── refcocog/instances_refcocog_{train,val,test}.json

    An expressions file has one image entry per *sentence*; it is written by
    ``tools/dataset_converters/refer_to_coco.py``, and those of the authors
    of ReferFormer are read as well. A clip is an image (T = 1) with these
    further facts:

    ============ ======================================================
    ``subset``   str, the file without ``instances_``, such as
                 ``refcoco+_testA``
    ``image_id`` int, the ``id`` of the sentence in its file; as a str it is
                 the ``exp_id``
    ``rles``     the annotation's ``segmentation``, polygons or RLE
    ``ori_bbox`` list[float], x1 y1 x2 y2 of the published box in pixels of
                 the original image
    ============ ======================================================

    In training, crowds and sentences without words are left out.

    Args:
        ann_file: One expressions file or several, relative to
            ``data_root``.
        data_prefix: Folder of the images (``img``).
        **kwargs: Arguments of :class:`BaseReferDataset`.

    Raises:
        FileNotFoundError: If a file or folder is missing.
        ValueError: If a file does not hold what it should.
    """

    EXPRESSION_KEYS: ClassVar[tuple[str, ...]] = (
        *BaseReferDataset.EXPRESSION_KEYS,
        'image_id',
        'subset',
        'rles',
        'ori_bbox',
    )

    def __init__(
        self,
        ann_file: str | Sequence[str],
        *,
        data_root: str = '',
        data_prefix: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        names = [ann_file] if isinstance(ann_file, str) else list(ann_file)
        # names of files are identities here, so they must differ
        if not names or len(set(names)) < len(names):
            raise ValueError(
                f'ann_file is {ann_file}; name one file, or several '
                'different ones.'
            )
        self.ann_files = [Path(data_root or '') / name for name in names]
        super().__init__(
            # what messages of the base class show
            ann_file=', '.join(names),
            data_root=data_root,
            data_prefix=dict(data_prefix or {'img': 'train2014'}),
            **kwargs,
        )

    def load_expressions(self) -> list[dict]:
        """Return one dict per sentence."""
        folder = Path(self.data_prefix['img'])
        if not folder.is_dir():
            raise FileNotFoundError(
                f'Folder {folder} (data_prefix "img") does not exist; it '
                'holds the images of COCO train2014, see '
                'docs/datasets/refcoco.md.'
            )
        clips = []
        for path in self.ann_files:
            images, meant = self._read_file(path)
            usable = [
                image
                for image in images
                if self.test_mode
                or (
                    image['caption'].strip()
                    and not meant[image['id']].get('iscrowd')
                )
            ]
            if len(usable) < len(images):
                print_log(
                    f'{path}: {len(images) - len(usable)} of {len(images)} '
                    'sentences have no words or mean a crowd; they are left '
                    'out of the training.',
                    logger='current',
                )
            if not usable:
                raise ValueError(f'{path} holds no usable sentence.')
            clips += self._parse_entries(path, usable, meant)
        return clips

    @staticmethod
    def _read_file(path: Path) -> tuple[list[dict], dict[int, dict]]:
        """Return the sentences of a file, and the annotation of each."""
        images, annotations = _read_annotations(path)
        try:
            meant = {entry['image_id']: entry for entry in annotations}
            unmatched = [i['id'] for i in images if i['id'] not in meant]
            speechless = [
                i['id'] for i in images if not isinstance(i['caption'], str)
            ]
        except (KeyError, TypeError) as error:
            raise ValueError(
                f'{path} has an unusable entry ({error!r}); convert the set '
                'again.'
            ) from error
        if unmatched or not len(images) == len(annotations) == len(meant):
            raise ValueError(
                f'{path} has {len(images)} sentences and {len(annotations)} '
                'annotations which do not belong together one by one '
                f'(sentences without: {unmatched[:3]}); convert the set again.'
            )
        if speechless:
            raise ValueError(
                f'{path}: the captions of images {speechless[:3]} are no '
                'text; convert the set again.'
            )
        return images, meant

    def _parse_entries(
        self, path: Path, images: Sequence[dict], meant: Mapping[int, dict]
    ) -> Iterator[dict]:
        """Yield one dict per sentence."""
        subset = path.stem.removeprefix('instances_')
        for image in images:
            annotation = meant[image['id']]
            try:
                name = _parse_name(image['file_name'])
                yield dict(
                    video_id=name.stem,
                    exp_id=str(image['id']),
                    image_id=image['id'],
                    text=image['caption'],
                    obj_id=str(
                        annotation.get('original_id', annotation['id'])
                    ),
                    label=0,
                    num_frames=1,
                    frame_names=[name.stem],
                    img_dir=self.data_prefix['img'],
                    img_suffix=name.suffix,
                    subset=subset,
                    rles=annotation['segmentation'],
                    ori_bbox=_parse_box(annotation['bbox']),
                )
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f'{path}: sentence {image["id"]} cannot be used '
                    f'({type(error).__name__}: {error}); convert the set '
                    'again.'
                ) from error
