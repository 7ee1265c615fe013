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

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

VIDEOS = 3782
SENTENCES = 6655
#: Split -> its number in the last column of videoset.csv.
SPLITS = {'train': '0', 'test': '1'}
MASKS = 'text_annotations/a2d_annotation_with_instances'


class Sentence(NamedTuple):
    """One line of a2d_annotation.txt that is used."""

    video: str
    instance: int
    text: str


def read_videos(root: Path, expected: int) -> dict[str, list[str]]:
    """Return the videos of each split, without those without masks.

    Raises:
        ValueError: If there are not as many as expected.
    """
    from referformer.formats.actor_action import read_table

    path = root / 'Release/videoset.csv'
    rows = read_table(path)
    if len(rows) != expected:
        raise ValueError(
            f'{path} lists {len(rows)} videos, expected {expected}; extract '
            f'the release again (a part of the set: --videos {len(rows)}).'
        )
    for number, row in enumerate(rows, 1):
        if len(row) < 2 or row[-1] not in SPLITS.values():
            raise ValueError(
                f'{path}:{number}: {",".join(row)!r} does not end with 0 '
                '(training) or 1 (test); extract the release again.'
            )
    missed = {
        row[0]
        for row in read_table(root / 'text_annotations/a2d_missed_videos.txt')
    }
    return {
        split: [r[0] for r in rows if r[-1] == mark and r[0] not in missed]
        for split, mark in SPLITS.items()
    }


def read_sentences(root: Path, expected: int) -> list[Sentence]:
    """Return the sentences, without the annotators' slips.

    Raises:
        ValueError: If there are not as many as expected, or a line is none.
    """
    from referformer.formats.actor_action import is_plain_name, read_table

    path = root / 'text_annotations/a2d_annotation.txt'
    rows = read_table(path)[1:]  # the first names the columns
    if len(rows) != expected:
        raise ValueError(
            f'{path} has {len(rows)} sentences, expected {expected}; extract '
            'text_annotations again (a part of the set: '
            f'--sentences {len(rows)}).'
        )
    sentences = []
    for number, row in enumerate(rows, 2):
        if len(row) >= 3 and row[1] == '1 (copy)':
            continue  # in T6bNPuKV-wY: nothing bears this number
        text = ','.join(row[2:]).lower()
        if not text or not is_plain_name(row[0]) or not row[1].isdecimal():
            raise ValueError(
                f'{path}:{number}: {",".join(row)!r} is not of the form '
                'video,instance,sentence; extract text_annotations again.'
            )
        sentences.append(Sentence(row[0], int(row[1]), text))
    return sentences


def list_frames(root: Path, video: str) -> list[Path]:
    """Return the files of the annotated frames of a video, in order."""
    return sorted(
        path
        for path in (root / MASKS / video).glob('*.h5')
        if path.stem.isdecimal()
    )


def find_frames(
    root: Path, sentences: list[Sentence], split: str
) -> Iterator[tuple[Sentence, Path]]:
    """Yield each sentence with each annotated frame that shows its instance.

    Raises:
        FileNotFoundError: If a video has no annotated frame.
    """
    from referformer.formats.actor_action import read_a2d_ids

    for sentence in progress(sentences, f'{split} sentences'):
        paths = list_frames(root, sentence.video)
        if not paths:
            raise FileNotFoundError(
                f'{root / MASKS / sentence.video} has no annotated frame '
                '(<frame>.h5); extract a2d_annotation_with_instances.zip '
                'completely.'
            )
        for path in paths:
            if sentence.instance in read_a2d_ids(path):
                yield sentence, path


def build_list(root: Path, sentences: list[Sentence], split: str) -> list:
    """Return rows of [sentence, video, frame from 1 on, instance]."""
    return [
        [sentence.text, sentence.video, int(path.stem), sentence.instance]
        for sentence, path in find_frames(root, sentences, split)
    ]


def build_coco(root: Path, sentences: list[Sentence], split: str) -> dict:
    """Return the ground truth; an image is a frame with one sentence.

    Raises:
        ValueError: If two sentences are about one instance.
    """
    from referformer.formats.actor_action import coco_entry, read_a2d_frame

    images: dict[str, dict] = {}
    annotations = []
    for sentence, path in find_frames(root, sentences, f'{split} masks of'):
        frame = read_a2d_frame(path)
        position = frame.ids.index(sentence.instance)
        name = f'v_{sentence.video}_f_{int(path.stem)}_i_{sentence.instance}'
        if name in images:
            raise ValueError(
                f'Two sentences are about instance {sentence.instance} of '
                f'video {sentence.video}; a2d_annotation.txt is not the '
                'published one, extract text_annotations again.'
            )
        images[name], annotation = coco_entry(
            len(annotations) + 1,
            name,
            frame.masks[position],
            None if frame.boxes is None else frame.boxes[position],
        )
        annotations.append(annotation)
    return {
        'categories': [{'id': 1, 'name': 'dummy_class'}],
        'images': list(images.values()),
        'annotations': annotations,
    }


def progress(items: list, what: str) -> Any:
    """Show how far an iteration is, and how long it will take."""
    from tqdm import tqdm

    return tqdm(items, desc=what, file=sys.stderr)


def convert(
    root: Path, out: Path, videos: int, sentences: int, overwrite: bool
) -> None:
    """Write the files that do not exist yet."""
    from referformer.formats.files import write_atomic

    single = 'a2d_sentences_single_frame_{}_annotations.json'
    outputs: dict[str, tuple[str, Callable[..., Any]]] = {
        single.format('train'): ('train', build_list),
        single.format('test'): ('test', build_list),
        'a2d_sentences_test_annotations_in_coco_format.json': (
            'test',
            build_coco,
        ),
    }
    splits = {k: set(v) for k, v in read_videos(root, videos).items()}
    every = read_sentences(root, sentences)
    for name, (split, build) in outputs.items():
        path = out / name
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
    """Run the command line.

    Args:
        argv (list[str], optional): Arguments; ``sys.argv`` when None.
    """
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('root', type=Path, metavar='ROOT')
    parser.add_argument(
        '--out', type=Path, help='folder for the files (default: ROOT)'
    )
    parser.add_argument(
        '--videos',
        type=int,
        default=VIDEOS,
        help='how many videos videoset.csv must list (default: %(default)s)',
    )
    parser.add_argument(
        '--sentences',
        type=int,
        default=SENTENCES,
        help='how many sentences there must be (default: %(default)s)',
    )
    parser.add_argument(
        '--overwrite', action='store_true', help='replace existing files'
    )
    args = parser.parse_args(argv)
    try:
        convert(
            args.root,
            args.out or args.root,
            args.videos,
            args.sentences,
            args.overwrite,
        )
    except (OSError, ValueError, ImportError) as error:
        sys.exit(f'error: {error}')
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == '__main__':
    main()
