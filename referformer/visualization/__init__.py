# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Pictures and videos of what was found."""

from referformer.visualization.local_visualizer import ReferLocalVisualizer

__all__ = [
    'ReferLocalVisualizer',
]
