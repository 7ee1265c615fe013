# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Put Ref-DAVIS17 into the Ref-YouTube-VOS layout.

DAVIS and TEXT are what the archives DAVIS-2017-Unsupervised-trainval-480p.zip
and davis_text_annotations.zip extract to (DAVIS-2017_semantics-480p.zip adds
davis_semantics.json to DAVIS). Nothing in them is moved or changed: OUT links
to their folders, or holds copies. Calling the command again costs nothing.
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from referformer.errors import ConfigError, DataError, MissingDataError
from referformer.formats.davis_text import (
    TEXT_FILES,
    Descriptions,
    read_descriptions,
    read_video_list,
)
from referformer.formats.files import atomic_path
from referformer.formats.frames import is_residue, list_frames, sort_names
from referformer.formats.text_files import check_count, read_json
from referformer.utils.cli import run

#: Split -> its list in ``DAVIS/ImageSets/2017``.
LISTS = {'train': 'train.txt', 'valid': 'val.txt'}
#: Kind -> folder of DAVIS, file name suffix.
KINDS = {
    'JPEGImages': ('JPEGImages/480p', '.jpg'),
    'Annotations': ('Annotations_unsupervised/480p', '.png'),
}
MANIFEST = 'ref-davis17.json'


class Plan(NamedTuple):
    """Everything OUT will hold.

    Attributes:
        tables: Relative path -> content of a JSON file.
        folders: Relative path -> folder it stands for.
    """

    tables: dict[str, dict]
    folders: dict[str, Path]


def merge(
    annotators: list[Descriptions], videos: list[str]
) -> tuple[dict[str, dict[str, dict]], list]:
    """Number the expressions of a split.

    Expression ``4 * k + annotator`` is about the k-th object, objects sorted
    as *strings* (1, 10, 2), as in the published files.

    Returns:
        Video -> expression -> text and object, and pairs of video and what
        is wrong with it: objects that not all four describe are left out.
    """
    merged: dict[str, dict[str, dict]] = {}
    wrong = []
    for video in videos:
        spoken = [texts.get(video, {}) for texts in annotators]
        everybody = sorted(set.intersection(*map(set, spoken)))
        for obj_id in sorted(set.union(*map(set, spoken)) - {*everybody}):
            silent = [
                file
                for (file, _), texts in zip(TEXT_FILES, spoken, strict=True)
                if obj_id not in texts
            ]
            wrong.append(
                (video, f'{video}, object {obj_id} is not in {silent[0]}')
            )
        if not any(spoken):
            wrong.append((video, f'{video} is in no text file'))
        merged[video] = {
            str(4 * k + annotator): {
                'exp': spoken[annotator][obj_id],
                'obj_id': obj_id,
            }
            for k, obj_id in enumerate(everybody)
            for annotator in range(4)
        }
    return merged, wrong


def find_frames(davis: Path, video: str) -> list[str]:
    """Return the names of the frames of a video.

    Raises:
        MissingDataError: If a folder or a mask is missing.
    """
    names = {}
    for kind, (folder, suffix) in KINDS.items():
        path = davis / folder / video
        names[kind] = list_frames(path, (suffix,))
        if not names[kind]:
            raise MissingDataError(
                f'{path} has no {suffix} files; extract '
                'DAVIS-2017-Unsupervised-trainval-480p.zip completely (the '
                'archive of the semi-supervised edition lacks these masks).',
                file=path,
            )
    unpaired = sort_names({*names['JPEGImages']} ^ {*names['Annotations']})
    if unpaired:
        raise MissingDataError(
            f'Frame {unpaired[0]} of {video} has an image or a mask in '
            f'{davis}, but not both ({len(unpaired)} such frames); extract '
            'the archive again.',
            file=davis,
        )
    return list(names['JPEGImages'])


def find_categories(
    semantics: Mapping[str, dict], expressions: Mapping[str, dict]
) -> dict:
    """Return the content of ``meta.json`` for the videos of a split."""
    videos = {}
    for video, entries in expressions.items():
        known = semantics.get(video, {})
        lacking = {e['obj_id'] for e in entries.values()} - {*known}
        if lacking:
            raise DataError(
                f'davis_semantics.json has no category of object '
                f'{min(lacking)} of {video}; extract '
                'DAVIS-2017_semantics-480p.zip again.'
            )
        videos[video] = {
            'objects': {k: {'category': str(v)} for k, v in known.items()}
        }
    return {'videos': videos}


def make_plan(
    davis: Path, text: Path, expected: Mapping[str, int], incomplete: bool
) -> Plan:
    """Read the original files.

    Args:
        davis: Folder of DAVIS.
        text: Folder of the text files.
        expected: Split -> number of its videos.
        incomplete: Leave out what not all annotators describe, and go on.

    Raises:
        MissingDataError: If something is missing.
        DataError: If something is not as it should be.
    """
    splits = {}
    for split, number in expected.items():
        path = davis / 'ImageSets/2017' / LISTS[split]
        splits[split] = read_video_list(path)
        check_count(
            path, len(splits[split]), number, 'videos', f'--{split}-videos'
        )
    read = [read_descriptions(text / file, code) for file, code in TEXT_FILES]
    wrong = [pair for _, pairs in read for pair in pairs]
    semantics = None
    path = davis / 'davis_semantics.json'
    if path.is_file():
        semantics = read_json(path)
        if not isinstance(semantics, dict):
            raise DataError(f'{path} is no table; extract it again.')
    plan = Plan({}, {})
    for split, videos in splits.items():
        expressions, pairs = merge([texts for texts, _ in read], videos)
        wrong += pairs
        plan.tables[f'meta_expressions/{split}/meta_expressions.json'] = {
            'videos': {
                video: {
                    'expressions': expressions[video],
                    'frames': find_frames(davis, video),
                }
                for video in videos
                if expressions[video]
            }
        }
        if semantics is not None:
            plan.tables[f'{split}/meta.json'] = find_categories(
                semantics, expressions
            )
        for kind, (folder, _) in KINDS.items():
            for video in videos:
                plan.folders[f'{split}/{kind}/{video}'] = (
                    davis / folder / video
                )
    # The text files also describe videos of the test splits.
    ours = {video for videos in splits.values() for video in videos}
    problems = [sentence for video, sentence in wrong if video in ours]
    if problems and not incomplete:
        raise DataError(
            f'{len(problems)} things are wrong in {text}: '
            f'{"; ".join(problems[:5])}. Extract davis_text_annotations.zip '
            'again, or leave these objects out with --skip-incomplete.'
        )
    for sentence in problems:
        print(f'left out: {sentence}', file=sys.stderr)
    return plan


def serialize(plan: Plan, out: Path, copy: bool) -> Iterator[tuple[str, str]]:
    """Yield relative path and content of every file to be written.

    The last one is the manifest, by which a second call knows its work.
    """
    digest = hashlib.sha256()
    for path, table in plan.tables.items():
        content = json.dumps(table, ensure_ascii=False) + '\n'
        digest.update(f'{path}\n{content}'.encode())
        yield path, content
    manifest = {
        'version': 1,
        'tables': digest.hexdigest(),
        'copy': copy,
        'folders': {k: link_target(v, out, k) for k, v in plan.folders.items()}
        if not copy
        else sorted(plan.folders),
    }
    yield MANIFEST, json.dumps(manifest, indent=2) + '\n'


def link_target(folder: Path, out: Path, path: str) -> str:
    """Return where the link ``out / path`` points.

    It is relative, so that both folders can be moved together.
    """
    start = (out / path).parent.resolve()
    return os.path.relpath(folder.resolve(), start)


def write(plan: Plan, out: Path, copy: bool) -> bool:
    """Write everything, or nothing.

    Returns:
        Whether there was anything to do.

    Raises:
        ConfigError: If ``out`` holds something else.
    """
    files = dict(serialize(plan, out, copy))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        manifest = out / MANIFEST
        if not manifest.is_file():
            raise ConfigError(
                f'{out} exists and was not made by this command; choose a '
                'new folder for OUT.'
            )
        if manifest.read_text() != files[MANIFEST]:
            raise ConfigError(
                f'{out} was made of other files, or with other options; '
                'choose a new folder for OUT, or remove it.'
            )
        lost = [path for path in plan.folders if not (out / path).is_dir()]
        if lost:
            raise ConfigError(
                f'{out} has lost {lost[0]} ({len(lost)} such folders); remove '
                'it and convert again.'
            )
        return False
    with atomic_path(out) as temporary:
        temporary.mkdir()
        for path, folder in tqdm(
            plan.folders.items(),
            desc='copy' if copy else 'link',
            unit='folder',
            disable=not copy,
        ):
            target = temporary / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if copy:
                shutil.copytree(
                    folder,
                    target,
                    ignore=lambda _, names: set(filter(is_residue, names)),
                )
            else:
                target.symlink_to(
                    link_target(folder, out, path), target_is_directory=True
                )
        for path, content in files.items():
            (temporary / path).parent.mkdir(parents=True, exist_ok=True)
            (temporary / path).write_text(content, encoding='utf-8')
    return True


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'davis', type=Path, help='folder DAVIS, with JPEGImages and ImageSets'
    )
    parser.add_argument(
        'text', type=Path, help='folder davis_text_annotations'
    )
    parser.add_argument('out', type=Path, help='folder to make')
    parser.add_argument(
        '--copy',
        action='store_true',
        help='copy images and masks (about 0.6 GB) where links do not work',
    )
    parser.add_argument(
        '--skip-incomplete',
        action='store_true',
        help='leave out objects that not all four annotators describe',
    )
    for split, number in (('train', 60), ('valid', 30)):
        parser.add_argument(
            f'--{split}-videos',
            type=int,
            default=number,
            metavar='N',
            help='number of videos there must be (default: %(default)s)',
        )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Convert the set."""
    args = parse_args(argv)
    expected = {'train': args.train_videos, 'valid': args.valid_videos}
    plan = make_plan(args.davis, args.text, expected, args.skip_incomplete)
    done = write(plan, args.out.resolve(), args.copy)
    for split in expected:
        table = plan.tables[f'meta_expressions/{split}/meta_expressions.json']
        videos = table['videos'].values()
        print(
            f'{split}: {len(videos)} videos, '
            f'{sum(len(v["expressions"]) for v in videos)} expressions, '
            f'{sum(len(v["frames"]) for v in videos)} frames'
        )
    if 'valid/meta.json' not in plan.tables:
        print(
            'No categories: there is no davis_semantics.json in '
            f'{args.davis}. Published models do not need them.'
        )
    print(f'{args.out} {"is ready" if done else "was ready already"}.')


if __name__ == '__main__':
    run(main)
