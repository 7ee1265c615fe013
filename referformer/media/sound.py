# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The sound of a video, added to another one that is written already.

Sound may be of any format, and nobody asked for it in particular. So it never
costs the pictures: they are complete before it is touched, and another process
does the work, since a decoder of a strange format may abort its process.
"""

import heapq
import os
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

#: Sound that goes into an mp4 file and plays in a browser as it is.
_KEPT_SOUND = ('aac', 'mp3', 'opus')
#: Samples a second that AAC knows and browsers play; others become the last.
_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
#: Steps of the clock, in seconds: back, as where files were joined; ahead,
#: as they are; and a gap of silence.
_BACK, _JUMP, _GAP = 0.5, 10.0, 0.1


class Sound(NamedTuple):
    """The sound of a video between two times, seconds from its first frame."""

    path: str
    start: float
    end: float


def add_sound(path: Path, sound: Sound) -> None:
    """Add the sound of a video to an mp4 file without sound, if there is any.

    What plays in a browser is copied as it is, the rest becomes AAC. If this
    fails, the file stays as it is, with a warning.
    """
    if not _has_sound(sound.path):
        return
    result = path.with_name(f'sound-{path.name}')
    command = [sys.executable, '-m', __name__, str(path), str(result)]
    command += [sound.path, str(sound.start), str(sound.end)]
    # the child finds the packages where this process does
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path))}
    with tempfile.TemporaryFile() as said:
        try:
            # the end of its input tells the child that this process ended
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stderr=said, env=env
            )
            with process:
                try:
                    process.wait(60 + sound.end - sound.start)
                finally:
                    process.kill()
            if process.returncode == 0:
                result.replace(path)
                return
            said.seek(0)
            lines = said.read().decode(errors='replace').split('\n')
            reason = next(filter(str.strip, reversed(lines)), 'no reason told')
            if process.returncode < 0:
                reason = f'its decoder ended by signal {-process.returncode}'
        except (OSError, subprocess.TimeoutExpired) as error:
            reason = str(error)
        finally:
            result.unlink(missing_ok=True)
    warnings.warn(
        f'The sound of {sound.path} is left out: {reason.strip()}',
        stacklevel=2,
    )


def _has_sound(path: str) -> bool:
    """Whether a file has sound; False if it cannot be read."""
    from referformer.errors import MediaError
    from referformer.media.index import open_video

    try:
        with open_video(path) as container:
            return bool(container.streams.audio)
    except MediaError:
        return False


# -- in the other process -----------------------------------------------------


def _main(path: str, result: str, source: str, start: str, end: str) -> None:
    """Write ``result``, the pictures of ``path`` with the sound of a video."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sound = Sound(source, float(start), float(end))
    failure: Exception | None = None
    for copies in (True, False):
        try:
            _write(path, result, sound, copies)
        except Exception as error:  # of any kind: it is reported by the parent
            failure = error
        else:
            return
    sys.exit(' '.join(str(failure).split()) or repr(failure))


def _end_with_parent() -> None:
    os.read(0, 1)
    os._exit(1)


def _write(path: str, result: str, sound: Sound, copies: bool) -> None:
    """Write both into a file, and hear whether it plays."""
    import av

    from referformer.media.index import demux, open_video

    with (
        open_video(path) as pictures,
        open_video(sound.path) as source,
        av.open(
            str(Path(result).absolute()),
            'w',
            format='mp4',
            options={'movflags': 'faststart'},
        ) as target,
    ):
        [video] = pictures.streams.video
        track = source.streams.best('audio')
        output = target.add_stream_from_template(video)
        if not copies:
            samples = _encoded(target, source, track, sound)
        elif track.codec_context.name in _KEPT_SOUND:
            samples = _copied(target, source, track, sound)
        else:
            raise ValueError(f'{track.codec_context.name} cannot be copied')

        def shown() -> Iterator[tuple[float, Any]]:
            for packet in demux(pictures, video):
                time = float(packet.dts * packet.time_base)
                packet.stream = output
                yield time, packet

        for _, packet in heapq.merge(
            shown(), samples, key=lambda timed: timed[0]
        ):
            target.mux(packet)
    with open_video(result) as container:
        next(container.decode(audio=0))


def _origin(source: Any, sound: Sound) -> float:
    """Return the time in the source that is 0 in our video."""
    from referformer.media.index import (
        decode,
        demux,
        open_video,
        video_stream,
    )

    with open_video(sound.path) as again:
        stream = video_stream(again, sound.path)
        first = next(decode(demux(again, stream)), None)
    begin = 0.0 if first is None or first.pts is None else first.time
    return begin + sound.start


def _copied(
    target: Any, source: Any, track: Any, sound: Sound
) -> Iterator[tuple[float, Any]]:
    """Return (time in our video, packet for it), as they are."""
    output = target.add_stream_from_template(track)
    origin = _origin(source, sound)

    def packets() -> Iterator[tuple[float, Any]]:
        last = float('-inf')
        for packet in source.demux(track):
            if not packet.size:
                continue
            if packet.pts is None:
                raise ValueError('its packets have no time stamps')
            time = float(packet.pts * packet.time_base) - origin
            if time <= last:
                raise ValueError('its clock jumps back')
            last = time
            if time >= sound.end - sound.start:
                return
            if time >= 0:
                packet.pts -= round(origin / packet.time_base)
                packet.dts = packet.pts
                packet.stream = output
                yield time, packet

    return packets()


def _encoded(
    target: Any, source: Any, track: Any, sound: Sound
) -> Iterator[tuple[float, Any]]:
    """Return (time in our video, packet for it), as AAC."""
    import av

    from referformer.media.index import decode, demux

    rate = track.codec_context.sample_rate
    rate = rate if rate in _RATES else _RATES[-1]
    layout = 'mono' if track.codec_context.channels == 1 else 'stereo'
    output = target.add_stream('aac', rate=rate, layout=layout)
    resampler = av.AudioResampler('fltp', layout, rate)
    origin = _origin(source, sound)
    joined = source.format.name in ('mpegts', 'mpeg')
    begin = float((track.start_time or 0) * track.time_base) - origin

    def frames() -> Iterator[tuple[float, Any]]:
        """Yield (time in our video, frame); some have no time stamps."""
        clock, shift = None, 0.0
        for frame in decode(demux(source, track)):
            if frame.pts is None:
                time = begin if clock is None else clock
            else:
                time = frame.time - origin + shift
            if clock is not None and (
                time < clock - _BACK or (joined and time > clock + _JUMP)
            ):
                shift += clock - time
                time = clock
            clock = time + frame.samples / frame.sample_rate
            if time >= sound.end - sound.start:
                return
            if time >= 0:
                frame.pts = None
                yield time, frame

    def packets() -> Iterator[tuple[float, Any]]:
        position = time = None
        for time, frame in frames():
            for piece in resampler.resample(frame):
                due = round(time * rate)
                if position is None or due > position + _GAP * rate:
                    position = due
                piece.pts, piece.time_base = position, Fraction(1, rate)
                position += piece.samples
                for packet in output.encode(piece):
                    yield time, packet
        if time is None:
            raise ValueError('it cannot be decoded')
        for packet in output.encode(None):
            yield time, packet

    return packets()


if __name__ == '__main__':
    _main(*sys.argv[1:])
