# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Writing of pictures and videos, complete or not at all."""

import contextlib
import importlib.util
import os
import uuid
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path

import cv2
import numpy as np

__all__ = ['write_image', 'write_video']


@contextlib.contextmanager
def _written_whole(path: Path) -> Iterator[Path]:
    """Give a temporary name beside ``path`` that becomes it on success."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'.{uuid.uuid4().hex[:8]}-{path.name}')
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_image(path: str | os.PathLike[str], image: np.ndarray) -> None:
    """Write a picture in the format its suffix names.

    Args:
        path (str | PathLike): Where to, for example ``out/frame.png``.
        image (np.ndarray): RGB picture of shape (h, w, 3), uint8.

    Raises:
        ValueError: If OpenCV cannot write this suffix.
    """
    path = Path(path)
    bgr = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR)
    try:
        done, data = cv2.imencode(path.suffix, bgr)
    except cv2.error:
        done = False
    if not done:
        raise ValueError(
            f'{path} cannot be written: "{path.suffix}" is no picture format '
            'OpenCV knows; use .png or .jpg.'
        )
    with _written_whole(path) as part:
        part.write_bytes(data.tobytes())


def write_video(
    path: str | os.PathLike[str], frames: Iterable[np.ndarray], fps: float
) -> str:
    """Write frames as an mp4 file.

    With PyAV the video is H.264, which every browser plays. Without it
    OpenCV writes MPEG-4 part 2, which video players show but browsers do not.
    Frames are consumed one by one.

    Args:
        path (str | PathLike): Where to; the suffix should be ``.mp4``.
        frames (Iterable[np.ndarray]): RGB pictures of one shape (h, w, 3),
            uint8. An odd width or height is padded by one repeated row or
            column, as the codec needs even sizes.
        fps (float): Frames a second, above 0.

    Returns:
        str: The codec used, ``'h264'`` or ``'mpeg4'``.

    Raises:
        ValueError: If there is no frame, ``fps`` is not positive, or the
            frames differ in size.
        RuntimeError: If no encoder works here.
    """
    path = Path(path)
    if not fps > 0:
        raise ValueError(f'{path}: fps must be above 0 but is {fps}.')
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise ValueError(f'{path}: a video needs at least one frame.')
    checked = _even_frames(path, chain([first], iterator), first.shape)
    size = tuple(side + side % 2 for side in first.shape[:2])
    with _written_whole(path) as part:
        if importlib.util.find_spec('av') is not None:
            _write_h264(part, checked, size, fps)
            return 'h264'
        _write_mpeg4(part, checked, size, fps)
        return 'mpeg4'


def _even_frames(
    path: Path, frames: Iterable[np.ndarray], shape: tuple[int, ...]
) -> Iterator[np.ndarray]:
    """Yield the frames, checked against ``shape`` and padded to even sides."""
    for number, frame in enumerate(frames):
        if frame.shape != shape or frame.dtype != np.uint8:
            raise ValueError(
                f'{path}: frame {number} is {frame.shape} {frame.dtype} where '
                f'{shape} uint8 is expected.'
            )
        bottom, right = shape[0] % 2, shape[1] % 2
        yield np.ascontiguousarray(
            np.pad(frame, ((0, bottom), (0, right), (0, 0)), mode='edge')
        )


def _write_h264(
    path: Path, frames: Iterable[np.ndarray], size: tuple[int, int], fps: float
) -> None:
    """Write H.264 by PyAV; ``faststart`` lets a browser begin at once."""
    import av

    with av.open(
        str(path), 'w', format='mp4', options={'movflags': 'faststart'}
    ) as container:
        stream = container.add_stream(
            'libx264', rate=Fraction(fps).limit_denominator(1001)
        )
        stream.height, stream.width = size
        stream.pix_fmt = 'yuv420p'
        stream.options = {'crf': '18', 'preset': 'medium'}
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, format='rgb24')
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def _write_mpeg4(
    path: Path, frames: Iterable[np.ndarray], size: tuple[int, int], fps: float
) -> None:
    """Write MPEG-4 part 2 by OpenCV."""
    # OpenCV chooses the container by the suffix, which ``path`` keeps.
    writer = cv2.VideoWriter(
        str(path), cv2.VideoWriter_fourcc(*'mp4v'), fps, (size[1], size[0])
    )
    if not writer.isOpened():
        raise RuntimeError(
            f'{path.parent}: this OpenCV cannot write mp4 videos; run: '
            'pip install av'
        )
    try:
        for frame in frames:
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    finally:
        writer.release()
