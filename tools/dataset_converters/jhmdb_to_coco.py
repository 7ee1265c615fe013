# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Make the annotation files of JHMDB-Sentences from the original release.

ROOT is the folder with Rename_Images, puppet_mask and jhmdb_annotation.txt.
Nothing in it is moved or changed; two files are added (to --out, if given):

  jhmdb_sentences_samples_metadata.json          three frames of each video
  jhmdb_sentences_gt_annotations_in_coco_format.json      and their masks

What exists is kept. The published scores are on frames that were drawn at
random once and are listed in the samples metadata of the MTTR repository: put
that file into ROOT first to reproduce them. Without it, the middle frames of
the three thirds of each video are taken, the same every time.
"""

import json
from pathlib import Path

from tqdm import tqdm

from referformer.errors import DataError, MissingDataError
from referformer.formats.coco import NamedMask, coco_truths
from referformer.formats.files import write_atomic
from referformer.formats.frames import list_frames
from referformer.formats.jhmdb import (
    FRAME_FOLDER,
    MASK_FOLDER,
    identify_frames,
    read_puppet_mask,
    read_puppet_masks,
    read_samples,
    read_sentences,
)
from referformer.utils.cli import parse_converter, run

SENTENCES = 928
FRAMES = 3
METADATA = 'jhmdb_sentences_samples_metadata.json'
TRUTH = 'jhmdb_sentences_gt_annotations_in_coco_format.json'
#: Folder of the set in the samples metadata, as other code expects it.
FOLDER = './jhmdb_sentences'


def choose(length: int) -> list[int]:
    """Return which frames to score, numbered from 1.

    Args:
        length: Number of frames that have a mask.
    """
    return [(2 * k + 1) * length // (2 * FRAMES) + 1 for k in range(FRAMES)]


def build_metadata(root: Path, sentences: dict[str, str]) -> list:
    """Return rows [video, frame, masks, number of frames, sentence].

    Raises:
        MissingDataError: If frames or masks of a video are missing.
        DataError: If a video has less than three frames with a mask.
    """
    folders = {}
    for kind, file in (
        (FRAME_FOLDER, '00001.png'),
        (MASK_FOLDER, 'puppet_mask.mat'),
    ):
        found = root.glob(f'{kind}/*/*/{file}')
        folders[kind] = {path.parent.name: path.parent for path in found}
        missing = sorted(set(sentences) - set(folders[kind]))
        if missing:
            raise MissingDataError(
                f'{len(missing)} of {len(sentences)} videos are not in '
                f'{root / kind}/<action>, first {missing[0]!r}; extract the '
                'archive completely.'
            )
    rows = []
    for video, text in tqdm(sentences.items(), desc='videos'):
        images = folders[FRAME_FOLDER][video]
        masks = folders[MASK_FOLDER][video] / 'puppet_mask.mat'
        frames = list_frames(images, ('.png',))
        # The last frames of some videos have no mask.
        length = min(
            sum(map(str.isdecimal, frames)), len(read_puppet_masks(masks))
        )
        if length < FRAMES:
            raise DataError(
                f'{images} has {length} frames with a mask, which is less '
                f'than {FRAMES}; extract the archives again.'
            )
        for number in choose(length):
            image = images / f'{number:05d}.png'
            paths = [_published(root, path) for path in (image, masks)]
            rows.append([video, *paths, length, text])
    return rows


def _published(root: Path, path: Path) -> str:
    """Return a path as samples metadata write it."""
    return f'{FOLDER}/{path.relative_to(root).as_posix()}'


def build_coco(root: Path, metadata: Path) -> dict:
    """Return the masks of the chosen frames.

    Raises:
        DataError: If the metadata do not fit the masks.
    """
    samples = tqdm(read_samples(metadata), desc='masks')
    return coco_truths(
        NamedMask(
            f'v_{sample.video}_f_{sample.frame}',
            read_puppet_mask(root / sample.masks, sample.frame - 1),
        )
        for sample in samples
    )


def convert(root: Path, out: Path, sentences: int, overwrite: bool) -> None:
    """Write the files that do not exist yet."""
    kept = ' exists and is kept (--overwrite replaces it)'
    metadata, truth = out / METADATA, out / TRUTH
    if metadata.exists() and not overwrite:
        print(f'{metadata}{kept}')
    elif truth.exists() and not overwrite:
        raise DataError(
            f'{truth} exists without the samples metadata it was made from; '
            f'put {METADATA} beside it, or replace it (--overwrite).'
        )
    else:
        texts = read_sentences(root / 'jhmdb_annotation.txt', sentences)
        rows = build_metadata(root, texts)
        write_atomic(metadata, json.dumps(rows))
        print(f'{metadata}: {len(rows)} frames')
    if truth.exists() and not overwrite:
        print(f'{truth}{kept}')
    else:
        content = build_coco(root, metadata)
        choice = identify_frames(i['id'] for i in content['images'])
        if choice is not None:
            print(f'{metadata}: {choice.text}')
        write_atomic(truth, json.dumps(content))
        print(f'{truth}: {len(content["annotations"])} masks')


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    args = parse_converter(argv, __doc__, sentences=SENTENCES)
    convert(args.root, args.out, args.sentences, args.overwrite)


if __name__ == '__main__':
    run(main)
