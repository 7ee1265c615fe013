# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Frames of a video, a folder of pictures, an array or a picture."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from referformer.errors import (
    ConfigError,
    MediaError,
    MissingMediaError,
    MissingPackageError,
)
from referformer.media.animation import Animation
from referformer.media.pictures import (
    count_pictures,
    is_picture,
    list_pictures,
    read_picture,
)

#: Frames per second of a folder or an array of unknown rate: that of
#: Ref-YouTube-VOS, which models are trained on.
DEFAULT_FPS = 6.0


@dataclass(eq=False)
class Frame:
    """A frame of a source.

    Attributes:
        index (int): Its number in the source, from 0.
        name (str): Its name, for files.
        time (float): Seconds from the beginning of the source.
        shape (tuple[int, int]): Height and width.
        image (np.ndarray | None): uint8, BGR, (H, W, 3), while needed.
    """

    index: int
    name: str
    time: float
    shape: tuple[int, int]
    image: np.ndarray | None


@dataclass(frozen=True)
class FrameSource:
    """The frames of one video that are to be processed.

    Iterating reads them one by one, in order, and may be repeated.

    Attributes:
        name (str): Name of the video.
        fps (float): Frames per second, the mean if the rate varies.
        indices (np.ndarray): Numbers of the frames, increasing, shape (n,).
        times (np.ndarray): Seconds from the beginning of the source to each
            of them, shape (n,).
        frame_name (Callable): Number of a frame -> its name.
        read (Callable): Numbers of frames -> iterator of pictures.
        frame_bytes (int): Bytes of a decoded frame.
        path (str | None): The file or folder.
        is_picture (bool): Whether it is a single picture.
        missing (int): Frames lost because the file is cut off.
    """

    name: str
    fps: float
    indices: np.ndarray
    times: np.ndarray
    frame_name: Callable[[int], str]
    read: Callable[[Sequence[int]], Iterator[np.ndarray]]
    frame_bytes: int
    path: str | None = None
    is_picture: bool = False
    missing: int = 0

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames.

        Raises:
            MediaError: If they differ in size.
        """
        numbers, times = self.indices.tolist(), self.times.tolist()
        shape = None
        for index, time, image in zip(
            numbers, times, self.read(numbers), strict=True
        ):
            name = self.frame_name(index)
            if shape is not None and image.shape[:2] != shape:
                raise MediaError(
                    f'Frame {name} of {self.path or self.name} is '
                    f'{image.shape[1]} x {image.shape[0]} pixels where those '
                    f'before are {shape[1]} x {shape[0]}; the frames of a '
                    'video must have one size.'
                )
            shape = image.shape[:2]
            yield Frame(index, name, time, shape, image)
            del image


def open_source(
    data: str | os.PathLike[str] | np.ndarray,
    fps: float | None = None,
    every: int = 1,
    start: float | None = None,
    end: float | None = None,
    partial: bool = False,
) -> FrameSource:
    """Open a source of frames; at most one frame is read.

    Args:
        data (str | PathLike | np.ndarray): A video file or an animated
            picture, a folder of pictures (in the order of their names,
            numbers as numbers), a picture, or frames as uint8, BGR, shape
            (T, H, W, 3) or (H, W, 3).
        fps (float, optional): Frames per second to process of a video, by
            their time stamps. For anything else, its frame rate; 6 if None.
        every (int): Process every N-th frame only.
        start (float, optional): Seconds from the beginning at which to start.
        end (float, optional): Seconds at which to stop.
        partial (bool): Accept a video that is cut off and take what is there.

    Returns:
        FrameSource: The frames chosen, at least one.

    Raises:
        ConfigError: If an argument is out of range, or chooses no frame.
        MediaError: If it cannot be read or holds no frame.
    """
    if every < 1:
        raise ConfigError(f'every is {every}; it must be at least 1.')
    if fps is not None and not 0 < fps < float('inf'):
        raise ConfigError(f'fps is {fps}; it must be above 0.')
    sample_fps = None
    if isinstance(data, np.ndarray):
        source = _from_array(data, fps)
    elif isinstance(data, str | os.PathLike):
        path = Path(data).expanduser()
        if path.is_dir():
            source = _from_pictures(path, list_pictures(path), fps)
        elif not path.exists():
            raise MissingMediaError(
                f'{path} does not exist; give a video file, a folder of '
                'pictures or a picture.',
                file=path,
            )
        # what it holds decides, not its name
        elif is_picture(path):
            if count_pictures(path) > 1:
                source = _from_animation(path, partial)
                sample_fps = fps
            else:
                source = _from_pictures(path, [path], fps)
        else:
            source = _from_video(path, partial)
            sample_fps = fps
    else:
        raise TypeError(
            f'{type(data).__name__} is not a video; give a path or an array.'
        )
    chosen = _choose(source.times, every, start, end, sample_fps)
    if not len(chosen):
        last = float(source.times[-1])
        raise ConfigError(
            f'{source.path or source.name} has no frame between start='
            f'{start} and end={end} seconds; its last is at {last:.3f}.'
        )
    return replace(
        source,
        fps=min(sample_fps or source.fps, source.fps) / every,
        indices=source.indices[chosen],
        times=source.times[chosen],
    )


def _choose(
    times: np.ndarray,
    every: int,
    start: float | None,
    end: float | None,
    fps: float | None,
) -> np.ndarray:
    """Return the positions of the frames to process."""
    # a time typed in with three digits means the frame it names
    slack = 5e-4
    first = 0 if start is None else np.searchsorted(times, start - slack)
    last = len(times) if end is None else np.searchsorted(times, end - slack)
    chosen = np.arange(first, last)
    if fps is not None and len(chosen):
        seconds = times[chosen] - times[chosen[0]]
        ticks = np.arange(int(seconds[-1] * fps + slack) + 1) / fps
        # the frame that a player shows at each tick; repeated ones once
        shown = np.searchsorted(seconds, ticks + slack, side='right') - 1
        chosen = chosen[np.unique(shown)]
    return chosen[::every]


def _from_array(frames: np.ndarray, fps: float | None) -> FrameSource:
    """Check an array and make a source of it."""
    given = frames.shape
    is_picture = frames.ndim == 3
    if is_picture:
        frames = frames[None]
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise MediaError(
            f'an array of shape {given} and type {frames.dtype} is not a '
            'video; give uint8, BGR, of shape (T, H, W, 3) or (H, W, 3).'
        )
    if 0 in frames.shape:
        raise MediaError(f'an array of shape {given} has no frame.')
    fps = fps or DEFAULT_FPS
    count = np.arange(len(frames))
    return FrameSource(
        'image' if is_picture else 'video',
        fps,
        count,
        count / fps,
        '{:05d}'.format,
        lambda numbers: (frames[i] for i in numbers),
        frames[0].nbytes,
        is_picture=is_picture,
    )


def _from_pictures(
    path: Path, files: list[Path], fps: float | None
) -> FrameSource:
    """Make a source of picture files."""
    fps = fps or DEFAULT_FPS
    count = np.arange(len(files))
    return FrameSource(
        path.resolve().name if path.is_dir() else path.stem,
        fps,
        count,
        count / fps,
        lambda number: files[number].stem,
        lambda numbers: (read_picture(files[i]) for i in numbers),
        read_picture(files[0]).nbytes,
        path=str(path),
        is_picture=not path.is_dir(),
    )


def _from_animation(path: Path, partial: bool) -> FrameSource:
    """Make a source of an animated picture."""
    video = Animation(path, partial)
    height, width = video.shape
    return FrameSource(
        path.stem,
        video.fps,
        np.arange(len(video.timestamps)),
        video.timestamps,
        '{:05d}'.format,
        video.iterate,
        3 * width * height,
        path=str(path),
        missing=video.missing,
    )


def _from_video(path: Path, partial: bool) -> FrameSource:
    """Make a source of a video file."""
    try:
        from referformer.media.reader import VideoReader
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f'Reading {path} needs PyAV; run: pip install av'
        ) from error

    with VideoReader(path, partial=partial, square=True) as video:
        width, height = video.size
    return FrameSource(
        path.stem,
        video.fps,
        np.arange(len(video)),
        video.timestamps,
        '{:05d}'.format,
        video.iterate,
        3 * width * height,
        path=str(path),
        missing=video.missing,
    )
