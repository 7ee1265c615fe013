# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""RefCOCO, RefCOCO+ and RefCOCOg: images as clips of one frame."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from mmengine.logging import print_log

from referformer.datasets.base_refer_dataset import BaseReferDataset
from referformer.errors import (
    ConfigError,
    DataError,
    MissingDataError,
    report_error,
)
from referformer.formats.refcoco import RefCOCOSentence, read_sentences
from referformer.registry import DATASETS


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
    """

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
            raise ConfigError(
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
            report_error(
                MissingDataError(
                    f'Folder {folder} (data_prefix "img") does not exist; it '
                    'holds the images of COCO train2014, see '
                    'docs/datasets/refcoco.md.',
                    file=folder,
                    code='folder-missing',
                )
            )
        clips = []
        for path in self.ann_files:
            try:
                sentences = read_sentences(path)
            except DataError as error:
                report_error(error)
                continue
            usable = [
                sentence
                for sentence in sentences
                if self.test_mode
                or (sentence.text.strip() and not sentence.crowd)
            ]
            if len(usable) < len(sentences):
                print_log(
                    f'{path}: {len(sentences) - len(usable)} of '
                    f'{len(sentences)} sentences have no words or mean a '
                    'crowd; they are left out of the training.',
                    logger='current',
                )
            if not usable:
                self.report('expression-none', 'no usable sentence.', path)
            subset = path.stem.removeprefix('instances_')
            clips += [self._make_clip(subset, s) for s in usable]
        return clips

    def _make_clip(self, subset: str, sentence: RefCOCOSentence) -> dict:
        """Turn a sentence into a clip of one frame."""
        name = PurePosixPath(sentence.file_name)
        return {
            'video_id': str(name.with_suffix('')),
            'exp_id': str(sentence.image_id),
            'image_id': sentence.image_id,
            'text': sentence.text,
            'obj_id': sentence.obj_id,
            'label': 0,
            'video_length': 1,
            'frame_names': [name.stem],
            'img_dir': str(
                PurePosixPath(self.data_prefix['img'], name.parent)
            ),
            'img_suffix': name.suffix,
            'subset': subset,
            'rles': sentence.segmentation,
            'ann_shape': sentence.shape,
            'ori_bbox': list(sentence.box),
        }
