# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Scores over time as HTML, to be clicked on beside a player."""

import json
from collections.abc import Sequence
from html import escape

import numpy as np

from referformer.visualization.drawing import Colour

#: Width and height of the drawing, which is stretched to the page.
_WIDTH, _HEIGHT = 1000, 100
#: Steps of the time axis in seconds; the first that gives few labels is used.
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600)


def plot_scores(
    texts: Sequence[str],
    scores: Sequence[np.ndarray],
    times: np.ndarray,
    seconds: float,
    colours: Sequence[Colour],
) -> str:
    """Draw a line for each expression.

    The outer element has ``data-times``, a JSON list of the times at which
    frames begin, and ``data-seconds``, for the script of a page that moves a
    player to where somebody clicks.

    Args:
        texts (Sequence[str]): E expressions.
        scores (Sequence[np.ndarray]): For each the scores of n frames, in
            [0, 1].
        times (np.ndarray): Seconds at which the frames begin, shape (n,).
        seconds (float): Length of the video.
        colours (Sequence[Colour]): RGB, one for each expression.

    Returns:
        str: An element with the classes ``score-plot``, ``area``,
        ``playhead``, ``axis-x`` and ``axis-y``. It brings no style.
    """
    # a frame is shown until the next one, the last one until the end
    x = np.append(times, seconds) / seconds * _WIDTH
    lines = []
    for text, values, colour in zip(texts, scores, colours, strict=True):
        y = (1 - np.append(values, values[-1])) * _HEIGHT
        points = ' '.join(
            f'{a:.1f},{b:.1f}' for a, b in zip(x, y, strict=True)
        )
        line = f'points="{points}" vector-effect="non-scaling-stroke"'
        title = f'<title>{escape(text)}</title>'
        lines += [
            f'<polyline class="rim" {line} />',
            f'<polyline stroke="rgb{colour}" {line}>{title}</polyline>',
        ]
    step = next((s for s in _STEPS if seconds / s <= 8), _STEPS[-1])
    # none so near the end that it would leave the page
    ticks = np.arange(0, 0.97 * seconds, step)
    labels = ''.join(
        f'<span style="left:{tick / seconds:.2%}">{tick:g} s</span>'
        for tick in ticks
    )
    grid = ''.join(
        f'<line x1="0" x2="{_WIDTH}" y1="{y}" y2="{y}" '
        'vector-effect="non-scaling-stroke" />'
        for y in (0, _HEIGHT / 2, _HEIGHT)
    )
    begin = json.dumps(np.asarray(times, float).round(4).tolist())
    return (
        '<div class="score-plot" tabindex="0" role="slider" '
        'aria-label="Score over time; click to move the video there" '
        f'aria-valuemin="0" aria-valuemax="{seconds:.2f}" aria-valuenow="0" '
        f'data-seconds="{seconds:.4f}" data-times="{begin}">'
        '<div class="axis-y"><span>1</span><span>0.5</span><span>0</span>'
        '</div><div class="area">'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" '
        f'aria-hidden="true">{grid}{"".join(lines)}</svg>'
        '<div class="playhead"></div></div>'
        f'<div class="axis-x">{labels}</div></div>'
    )
