# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""A dataset that was built, and the files it names."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from referformer.errors import DataError
from referformer.formats.text_files import read_json


class Split(NamedTuple):
    """A dataset, built.

    Attributes:
        name: Name of the split, or of the dataloader.
        dataset: The dataset.
        clips: Each video with each expression once; ``index`` is the position
            of its first item.
        full: Size of the full split, if that is to be compared.
        codes: What building it found.
    """

    name: str
    dataset: Any
    clips: list[dict]
    full: int | None
    codes: frozenset[str] = frozenset()

    @property
    def train(self) -> bool:
        """Whether it is trained on."""
        return not self.dataset.test_mode

    @property
    def path(self) -> str:
        """The annotation file."""
        return str(self.dataset.ann_file)

    @property
    def root(self) -> Path:
        """The folder of the set."""
        return Path(self.dataset.data_root or '.')

    @property
    def objects(self) -> dict[str, dict]:
        """The objects of each video in ``meta.json``, if there is one."""
        videos = read_videos(self.beside('meta_file'))
        tables = {name: video.get('objects') for name, video in videos.items()}
        return {k: v for k, v in tables.items() if isinstance(v, dict)}

    def beside(self, argument: str) -> Path | None:
        """Return a file that an argument of the dataset names."""
        name = getattr(self.dataset, argument, None)
        return name and self.root / name

    def told_in(self, clip: Mapping) -> str:
        """Return the annotation file that a clip comes from."""
        name = f'instances_{clip.get("subset")}.json'
        files = getattr(self.dataset, 'ann_files', ())
        return str(next((f for f in files if f.name == name), self.path))


@lru_cache(maxsize=2)
def read_content(path: Path | str | None) -> dict:
    """Return a table, empty if the file, as reported, holds none.

    Call its ``cache_clear`` when files may have changed.
    """
    try:
        content = {} if path is None else read_json(path)
    except DataError:
        return {}
    return content if isinstance(content, dict) else {}


def read_videos(path: Path | str | None) -> dict[str, dict]:
    """Return the videos of an expressions file or ``meta.json``, if any."""
    videos = read_content(path).get('videos')
    videos = videos if isinstance(videos, dict) else {}
    return {k: v for k, v in videos.items() if isinstance(v, dict)}
