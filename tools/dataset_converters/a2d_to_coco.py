# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Make the annotation files of A2D-Sentences from the original release.

ROOT is the folder with Release and text_annotations. Nothing in it is moved
or changed; three files are added (to --out, if given):

  a2d_sentences_single_frame_train_annotations.json
  a2d_sentences_single_frame_test_annotations.json
  a2d_sentences_test_annotations_in_coco_format.json

They have the names and contents which other code of the field expects, so
that files from elsewhere can be used as well: what exists is kept.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from referformer.errors import MissingDataError
from referformer.formats.a2d import (
    SPLITS,
    A2DSentence,
    read_a2d_frame,
    read_a2d_ids,
    read_sentences,
    read_videoset,
)
from referformer.formats.coco import NamedMask, coco_truths
from referformer.formats.files import write_atomic
from referformer.formats.frames import list_frames
from referformer.formats.text_files import read_table
from referformer.utils.cli import parse_converter, run

VIDEOS = 3782
SENTENCES = 6655
MASKS = 'text_annotations/a2d_annotation_with_instances'


def read_splits(root: Path, expected: int) -> dict[str, set[str]]:
    """Return the videos of each split, without those without masks."""
    videos = read_videoset(root / 'Release/videoset.csv', expected)
    missed = {
        row[0]
        for row in read_table(root / 'text_annotations/a2d_missed_videos.txt')
    }
    return {
        split: {
            video
            for video, its_split in videos.items()
            if its_split == split and video not in missed
        }
        for split in SPLITS
    }


def find_frames(
    root: Path, sentences: list[A2DSentence], split: str
) -> Iterator[tuple[A2DSentence, Path]]:
    """Yield each sentence with each annotated frame that shows its instance.

    Raises:
        MissingDataError: If a video has no annotated frame.
    """
    for sentence in tqdm(sentences, desc=f'{split} sentences'):
        folder = root / MASKS / sentence.video
        frames = list_frames(folder, ('.h5',))
        paths = [path for name, path in frames.items() if name.isdecimal()]
        if not paths:
            raise MissingDataError(
                f'{folder} has no annotated frame (<frame>.h5)',
                file=folder,
                remedy='extract a2d_annotation_with_instances.zip completely.',
            )
        for path in paths:
            if sentence.instance in read_a2d_ids(path):
                yield sentence, path


def build_list(root: Path, sentences: list[A2DSentence], split: str) -> list:
    """Return rows of [sentence, video, frame from 1 on, instance]."""
    return [
        [sentence.text, sentence.video, int(path.stem), sentence.instance]
        for sentence, path in find_frames(root, sentences, split)
    ]


def build_coco(root: Path, sentences: list[A2DSentence], split: str) -> dict:
    """Return the ground truth; an image is a frame with one sentence."""

    def show_masks() -> Iterator[NamedMask]:
        for said, path in find_frames(root, sentences, f'{split} masks of'):
            frame = read_a2d_frame(path)
            position = frame.ids.index(said.instance)
            yield NamedMask(
                f'v_{said.video}_f_{int(path.stem)}_i_{said.instance}',
                frame.masks[position],
                None if frame.boxes is None else frame.boxes[position],
            )

    return coco_truths(show_masks())


def convert(
    root: Path, out: Path, videos: int, sentences: int, overwrite: bool
) -> None:
    """Write the files that do not exist yet."""
    outputs = {
        'single_frame_train_annotations': ('train', build_list),
        'single_frame_test_annotations': ('test', build_list),
        'test_annotations_in_coco_format': ('test', build_coco),
    }
    splits = read_splits(root, videos)
    every = read_sentences(
        root / 'text_annotations/a2d_annotation.txt', sentences
    )
    for name, (split, build) in outputs.items():
        path = out / f'a2d_sentences_{name}.json'
        if path.exists() and not overwrite:
            print(f'{path} exists and is kept (--overwrite replaces it)')
            continue
        used = [s for s in every if s.video in splits[split]]
        content = build(root, used, split)
        write_atomic(path, json.dumps(content))
        samples = len(content['images'] if build is build_coco else content)
        print(
            f'{path}: {samples} frames with a sentence, {len(used)} '
            f'sentences, {len({s.video for s in used})} videos'
        )


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    args = parse_converter(argv, __doc__, videos=VIDEOS, sentences=SENTENCES)
    convert(args.root, args.out, args.videos, args.sentences, args.overwrite)


if __name__ == '__main__':
    run(main)
