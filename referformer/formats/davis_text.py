# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The text files of Ref-DAVIS17: expressions of four annotators."""

import re
from pathlib import Path

from referformer.errors import DataError
from referformer.formats.text_files import read_text, show, wrong_line

#: File and encoding of annotator 0 to 3. The first two looked at the first
#: frame and at the whole video; likewise the others.
TEXT_FILES = (
    ('Davis17_annot1.txt', None),
    ('Davis17_annot1_full_video.txt', None),
    ('Davis17_annot2.txt', 'latin-1'),
    ('Davis17_annot2_full_video.txt', 'latin-1'),
)
NUM_ANNOTATORS = len(TEXT_FILES)
#: Name in the text files -> name of the video.
MISSPELT = {
    'clasic-car': 'classic-car',
    'dog-scale': 'dogs-scale',
    'motor-bike': 'motorbike',
}
_REMEDY = 'docs/datasets/ref-davis17.md tells which archives to extract where'

#: Video -> object id -> expression.
Descriptions = dict[str, dict[str, str]]


def read_video_list(path: str | Path) -> list[str]:
    """Read a list of ``ImageSets``: one video a line.

    Raises:
        MissingDataError: If the file is missing.
        DataError: If a line is no name of a video, or comes twice.
    """
    lines = map(str.strip, read_text(path, remedy=_REMEDY).splitlines())
    names = [line for line in lines if line]
    for name in names:
        if not re.fullmatch(r'[\w-]+', name) or names.count(name) > 1:
            raise DataError(
                f'{path}: {show(name)} is no name of a video, or comes twice',
                file=path,
                remedy='extract the archive again.',
            )
    return names


def read_descriptions(
    path: str | Path, fallback: str | None = None
) -> tuple[Descriptions, list[tuple[str, str]]]:
    """Read the file of one annotator: ``<video> <object> "<expression>"``.

    Args:
        path: The file.
        fallback: Its encoding where it is not UTF-8.

    Returns:
        The expressions, and what is wrong with them: pairs of video and
        sentence.

    Raises:
        MissingDataError: If the file is missing.
        DataError: If it is no such file.
    """
    path = Path(path)
    descriptions: Descriptions = {}
    wrong = []
    lines = read_text(path, remedy=_REMEDY, fallback=fallback).split('\n')
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        quoted = ' '.join(words[2:])
        if len(words) < 3 or not words[1].isdecimal() or len(quoted) < 3:
            raise wrong_line(
                path, number, line.strip(), '<video> <object> "<expression>"'
            )
        video = MISSPELT.get(words[0], words[0])
        objects = descriptions.setdefault(video, {})
        if words[1] in objects:
            wrong.append(
                (video, f'{path.name}:{number}: object {words[1]} again')
            )
            continue
        # Quotes of whatever kind, as the published conversion does.
        objects[words[1]] = quoted[1:-1]
    return descriptions, wrong
