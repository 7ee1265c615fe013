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

import argparse
import json
import sys
from pathlib import Path
from typing import Any

SENTENCES = 928
FRAMES = 3
METADATA = 'jhmdb_sentences_samples_metadata.json'
TRUTH = 'jhmdb_sentences_gt_annotations_in_coco_format.json'
#: Folder of the set in the samples metadata, as other code expects it.
FOLDER = './jhmdb_sentences'


def read_sentences(root: Path, expected: int) -> dict[str, str]:
    """Return the sentence of each video.

    Raises:
        ValueError: If there are not as many as expected, or a line is none.
    """
    from referformer.formats.actor_action import read_table

    path = root / 'jhmdb_annotation.txt'
    rows = read_table(path)[1:]  # the first names the columns
    if len(rows) != expected:
        raise ValueError(
            f'{path} has {len(rows)} sentences, expected {expected}; '
            'download it again (a part of the set: '
            f'--sentences {len(rows)}).'
        )
    sentences: dict[str, str] = {}
    for number, (video, *words) in enumerate(rows, 2):
        text = ','.join(words)
        if not text or video in sentences:
            raise ValueError(
                f'{path}:{number}: {",".join([video, *words])!r} is not of '
                'the form video,sentence, or a second sentence of the video; '
                'download the file again.'
            )
        sentences[video] = text
    return sentences


def find_videos(root: Path, pattern: str) -> dict[str, Path]:
    """Return name -> folder of the videos that have a certain file."""
    return {path.parent.name: path.parent for path in root.glob(pattern)}


def choose(length: int) -> list[int]:
    """Return which frames to score, numbered from 1.

    Args:
        length: Number of frames that have a mask.
    """
    return [(2 * k + 1) * length // (2 * FRAMES) + 1 for k in range(FRAMES)]


def build_metadata(root: Path, sentences: dict[str, str]) -> list:
    """Return rows [video, frame, masks, number of frames, sentence].

    Raises:
        FileNotFoundError: If frames or masks of a video are missing.
        ValueError: If a video has less than three frames with a mask.
    """
    from referformer.formats.actor_action import read_puppet_masks

    folders = {
        kind: find_videos(root, f'{kind}/*/*/{name}')
        for kind, name in (
            ('Rename_Images', '00001.png'),
            ('puppet_mask', 'puppet_mask.mat'),
        )
    }
    for kind, present in folders.items():
        missing = sorted(set(sentences) - set(present))
        if missing:
            raise FileNotFoundError(
                f'{len(missing)} of {len(sentences)} videos are not in '
                f'{root / kind}/<action>, first {missing[0]!r}; extract the '
                'archive completely.'
            )
    rows = []
    for video, text in progress(sentences.items(), 'videos'):
        images = folders['Rename_Images'][video]
        masks = folders['puppet_mask'][video] / 'puppet_mask.mat'
        pictures = [
            path for path in images.glob('*.png') if path.stem.isdecimal()
        ]
        # The last frames of some videos have no mask.
        length = min(len(pictures), len(read_puppet_masks(masks)))
        if length < FRAMES:
            raise ValueError(
                f'{images} has {length} frames with a mask, which is less '
                f'than {FRAMES}; extract the archives again.'
            )
        for number in choose(length):
            rows.append(
                [
                    video,
                    _published(root, images / f'{number:05d}.png'),
                    _published(root, masks),
                    length,
                    text,
                ]
            )
    return rows


def _published(root: Path, path: Path) -> str:
    """Return a path as samples metadata write it."""
    return f'{FOLDER}/{path.relative_to(root).as_posix()}'


def build_coco(root: Path, metadata: Path) -> dict:
    """Return the masks of the chosen frames.

    Raises:
        ValueError: If the metadata do not fit the masks.
    """
    from referformer.datasets.jhmdb_sentences import JHMDBSentencesDataset
    from referformer.datasets.transforms import LoadJHMDBAnnotations
    from referformer.formats.actor_action import coco_entry

    dataset = JHMDBSentencesDataset(
        str(metadata.resolve()),
        data_root=str(root),
        pipeline=[],
        test_mode=True,
    )
    loader = LoadJHMDBAnnotations()
    images, annotations = [], []
    for position in progress(range(len(dataset)), 'masks'):
        item = dataset.get_data_info(position)
        mask = loader.open({**item, 'frame_id': item['mask_frame']})
        image, annotation = coco_entry(position + 1, item['image_id'], mask)
        images.append(image)
        annotations.append(annotation)
    return {
        'categories': [{'id': 1, 'name': 'dummy_class'}],
        'images': images,
        'annotations': annotations,
    }


def progress(items: Any, what: str) -> Any:
    """Show how far an iteration is, and how long it will take."""
    from tqdm import tqdm

    return tqdm(items, desc=what, file=sys.stderr)


def convert(root: Path, out: Path, sentences: int, overwrite: bool) -> None:
    """Write the files that do not exist yet."""
    from referformer.formats.files import write_atomic

    kept = ' exists and is kept (--overwrite replaces it)'
    metadata, truth = out / METADATA, out / TRUTH
    if metadata.exists() and not overwrite:
        print(f'{metadata}{kept}')
    elif truth.exists() and not overwrite:
        raise ValueError(
            f'{truth} exists without the samples metadata it was made from; '
            f'put {METADATA} beside it, or replace it (--overwrite).'
        )
    else:
        rows = build_metadata(root, read_sentences(root, sentences))
        write_atomic(metadata, json.dumps(rows))
        print(f'{metadata}: {len(rows)} frames')
    if truth.exists() and not overwrite:
        print(f'{truth}{kept}')
    else:
        content = build_coco(root, metadata)
        write_atomic(truth, json.dumps(content))
        print(f'{truth}: {len(content["annotations"])} masks')


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
            args.root, args.out or args.root, args.sentences, args.overwrite
        )
    except (OSError, ValueError, ImportError) as error:
        sys.exit(f'error: {error}')
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == '__main__':
    main()
