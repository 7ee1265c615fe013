# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Pictures and videos of what was found."""

from referformer.visualization.local_visualizer import ReferLocalVisualizer
from referformer.visualization.video_writer import (
    Sound,
    VideoWriter,
    write_image,
    write_video,
)

__all__ = [
    'ReferLocalVisualizer',
    'Sound',
    'VideoWriter',
    'write_image',
    'write_video',
]
