# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Videos of every kind, a second long, made on the spot."""

from fractions import Fraction

import numpy as np

#: Frames as they are, but never larger than a test can bear.
PIPELINE = [
    dict(type='NormalizeText'),
    dict(type='SampleAllFrames'),
    dict(
        type='TransformBroadcaster',
        transforms=[
            dict(type='LoadReferFrame'),
            dict(type='ReferResize', short_side=32),
            dict(type='LoadReferAnnotations'),
        ],
    ),
    dict(type='PackReferInputs', test_mode=True),
]


def moving_square(number=8, height=32, width=48):
    """RGB frames with a white square that moves right on grey."""
    frames = np.full((number, height, width, 3), 90, np.uint8)
    side = height // 4
    for n, frame in enumerate(frames):
        x = n * (width - side) // max(1, number - 1)
        frame[side : 2 * side, x : x + side] = 255
    return frames


def write_clip(
    path,
    frames,
    codec='libx264',
    pix_fmt='yuv420p',
    fps=10,
    times=None,
    sound=None,
    options=None,
):
    """Write a video file; ``times`` are seconds, ``sound`` is a codec."""
    import av

    with av.open(str(path), 'w', options=options or {}) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pix_fmt
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 90000)
        track = None
        if sound is not None:
            track = container.add_stream(sound, rate=16000)
        for n, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format='rgb24')
            if times is not None:
                picture.pts = round(times[n] * 90000)
                picture.time_base = Fraction(1, 90000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
        if track is not None:
            seconds = len(frames) / fps
            wave = np.sin(np.arange(int(16000 * seconds)) * 0.2) * 9000
            for start in range(0, len(wave), 1024):
                piece = wave[None, start : start + 1024].astype(np.int16)
                samples = av.AudioFrame.from_ndarray(
                    np.ascontiguousarray(piece), format='s16', layout='mono'
                )
                samples.sample_rate = 16000
                samples.pts = start
                samples.time_base = Fraction(1, 16000)
                container.mux(track.encode(samples))
            container.mux(track.encode(None))
    return path


def cut_off(folder):
    """Half of a file of 20 frames whose index comes first."""
    path = write_clip(
        folder / 'cut.mp4',
        np.random.default_rng(0).integers(0, 256, (20, 64, 96, 3), np.uint8),
        options={'movflags': 'faststart'},
    )
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path
