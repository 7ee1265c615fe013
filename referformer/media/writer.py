# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Writing of videos, complete or not at all."""

import contextlib
import importlib.util
import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from referformer.errors import ConfigError, MediaError, MissingPackageError
from referformer.formats.files import atomic_path
from referformer.media.sound import Sound, add_sound

#: Ticks of the clock of our videos: whole for 24, 25, 30 and 60 frames a
#: second, and within 0.01 ms of any other time.
_CLOCK = 90000


class VideoWriter:
    """Write an mp4 file frame by frame.

    With PyAV (``pip install referformer-mm[video]``) the video is H.264 in
    yuv420p, which every browser plays. Without it OpenCV writes MPEG-4 part
    2, which video players show but browsers do not, at a fixed rate and
    without sound.

    It is a context manager: the file gets its name when the block ends well,
    and is gone when it does not.

    Args:
        path (str | PathLike): Where to; the suffix should be ``.mp4``.
        fps (float): Frames a second, above 0.
        sound (Sound, optional): Sound to go along with it, where its video
            has any. Defaults to None.

    Attributes:
        codec (str): The codec used, ``'h264'`` or ``'mpeg4'``.

    Raises:
        ConfigError: If ``fps`` is not positive.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        fps: float,
        sound: Sound | None = None,
    ) -> None:
        self.path = Path(path)
        if not fps > 0:
            raise ConfigError(f'{path}: fps must be above 0 but is {fps}.')
        self.fps = fps
        self.sound = sound
        has_av = importlib.util.find_spec('av') is not None
        self.codec = 'h264' if has_av else 'mpeg4'
        self._shape: tuple[int, ...] | None = None
        self._number = 0
        self._file: _H264File | _MPEG4File | None = None
        self._exits = contextlib.ExitStack()

    def __enter__(self) -> 'VideoWriter':
        self._part = self._exits.enter_context(atomic_path(self.path))
        return self

    def write(self, frame: np.ndarray, time: float | None = None) -> None:
        """Write the next frame.

        Args:
            frame (np.ndarray): RGB picture of shape (h, w, 3), uint8, all of
                one shape. An odd side is padded by a repeated row or column,
                as the codec needs even sizes.
            time (float, optional): Seconds from the beginning at which it
                is shown, more than that of the frame before. None: its
                number over ``fps``.

        Raises:
            MediaError: If the frame differs from those before.
            MissingPackageError: If no encoder works here.
        """
        if self._shape is None:
            self._shape = frame.shape
            size = (frame.shape[0] + 1) // 2 * 2, (frame.shape[1] + 1) // 2 * 2
            kind = _H264File if self.codec == 'h264' else _MPEG4File
            with self._named_errors():
                self._file = kind(self._part, size, self.fps)
        if frame.shape != self._shape or frame.dtype != np.uint8:
            raise MediaError(
                f'{self.path}: frame {self._number} is {frame.shape} '
                f'{frame.dtype} where {self._shape} uint8 is expected.'
            )
        bottom, right = frame.shape[0] % 2, frame.shape[1] % 2
        if bottom or right:
            frame = np.pad(frame, ((0, bottom), (0, right), (0, 0)), 'edge')
        if time is None:
            time = self._number / self.fps
        with self._named_errors():
            self._file.write(np.ascontiguousarray(frame), time)
        self._number += 1

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        with self._exits:
            if self._file is not None:
                with self._named_errors():
                    self._file.close()
            if error is not None:
                raise error
            if self._file is None:
                raise MediaError(
                    f'{self.path}: a video needs at least one frame.'
                )
            if self.sound is not None and self.codec == 'h264':
                add_sound(self._part, self.sound)

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Let errors of FFmpeg name the file."""
        if self.codec != 'h264':
            yield
            return
        from av.error import FFmpegError

        try:
            yield
        except FFmpegError as error:
            raise MediaError(
                f'{self.path} cannot be written ({error.strerror})',
                file=self.path,
                remedy='see that the disk is not full and that no side of '
                'the frames exceeds 16384 pixels.',
            ) from error


def write_video(
    path: str | os.PathLike[str], frames: Iterable[np.ndarray], fps: float
) -> str:
    """Write frames as an mp4 file.

    Args:
        path (str | PathLike): Where to; the suffix should be ``.mp4``.
        frames (Iterable[np.ndarray]): RGB pictures of one shape (h, w, 3),
            uint8, consumed one by one.
        fps (float): Frames a second, above 0.

    Returns:
        str: The codec used, see :class:`VideoWriter`, which also tells the
        errors.
    """
    with VideoWriter(path, fps) as writer:
        for frame in frames:
            writer.write(frame)
    return writer.codec


class _H264File:
    """An mp4 file with H.264 by PyAV.

    ``faststart`` puts the index first, so that a browser begins at once.
    """

    def __init__(self, path: Path, size: tuple[int, int], fps: float) -> None:
        import av

        # from "/" on, a name is no address to FFmpeg
        self._container = av.open(
            str(path.absolute()),
            'w',
            format='mp4',
            options={'movflags': 'faststart'},
        )
        stream = self._container.add_stream(
            'libx264', rate=Fraction(fps).limit_denominator(1001)
        )
        stream.height, stream.width = size
        stream.pix_fmt = 'yuv420p'
        # without B-frames the times and the length of the file are exact
        # also where the rate varies
        stream.options = {'crf': '18', 'preset': 'veryfast', 'bf': '0'}
        stream.codec_context.time_base = Fraction(1, _CLOCK)
        self._stream = stream
        self._duration = round(_CLOCK / fps)

    def write(self, frame: np.ndarray, time: float) -> None:
        """Write a frame that is shown from a time on."""
        import av

        picture = av.VideoFrame.from_ndarray(frame, format='rgb24')
        picture.pts = round(time * _CLOCK)
        picture.time_base = Fraction(1, _CLOCK)
        self._mux(picture)

    def _mux(self, picture: Any) -> None:
        """Encode a picture; None ends the file."""
        for packet in self._stream.encode(picture):
            # the encoder does not know how long the last frame is shown
            if not packet.duration:
                packet.duration = self._duration
            self._container.mux(packet)

    def close(self) -> None:
        """Write what is left and close the file."""
        try:
            self._mux(None)
        finally:
            self._container.close()


class _MPEG4File:
    """An mp4 file with MPEG-4 part 2 by OpenCV, at a fixed rate, silent."""

    def __init__(self, path: Path, size: tuple[int, int], fps: float) -> None:
        # OpenCV chooses the container by the suffix, which ``path`` keeps.
        self._writer = cv2.VideoWriter(
            str(path.absolute()),
            cv2.VideoWriter_fourcc(*'mp4v'),
            fps,
            size[::-1],
        )
        if not self._writer.isOpened():
            raise MissingPackageError(
                f'{path.parent}: this OpenCV cannot write mp4 videos; run: '
                'pip install av'
            )
        self.close = self._writer.release

    def write(self, frame: np.ndarray, time: float) -> None:
        """Write a frame."""
        del time
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
