# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Pieces of the page as HTML, which need no Gradio."""

from html import escape

from referformer.apis.web.run import Outcome, RowResult, Status
from referformer.apis.web.visit import VideoFacts
from referformer.visualization.drawing import colour_of
from referformer.visualization.score_plot import plot_scores


def show_status(status: Status) -> str:
    """Return the line below the buttons, for a run that is not over."""
    share = round(100 * status.fraction)
    if status.state == 'waiting':
        text = {
            0: 'You are next.',
            1: 'One run is before yours.',
        }.get(status.ahead, f'{status.ahead} runs are before yours.')
        bar = ''
    else:
        text = escape(status.doing or 'Reading the video')
        bar = f' value="{share}"'
    left = ''
    if status.seconds_left is not None:
        left = f'about {duration(status.seconds_left)} left'
    return (
        '<div class="status working"><div class="what" role="status">'
        f'<span>{text}</span><span>{left}</span></div>'
        f'<progress max="100"{bar}></progress></div>'
    )


def show_message(text: str, kind: str = 'note') -> str:
    """Return a sentence for the line below the buttons."""
    role = 'alert' if kind == 'error' else 'status'
    return f'<div class="status {kind}" role="{role}">{escape(text)}</div>'


def show_facts(facts: VideoFacts, max_seconds: float) -> str:
    """Describe a video."""
    width, height = facts.size
    text = f'{width} × {height} pixels, {facts.seconds:.1f} s'
    kind = 'facts'
    if facts.missing:
        text += f'; it is cut off, and {facts.missing} frames are missing'
        kind = 'facts warning'
    if facts.seconds > max_seconds:
        text += f'; choose at most {max_seconds:g} s of it'
    return f'<div class="{kind}">{text}</div>'


def duration(seconds: float) -> str:
    """Write a time as people say it."""
    seconds = max(1, round(seconds))
    if seconds < 90:
        return f'{seconds} s'
    minutes = round(seconds / 60)
    return f'{minutes} min' if minutes < 90 else f'{minutes / 60:.1f} h'


def show_colour(number: int) -> str:
    """Return a square in the colour of a row."""
    return f'<i class="swatch" style="background:rgb{colour_of(number)}"></i>'


def show_row(row: RowResult) -> str:
    """Return the numbers of a row."""
    return (
        '<span title="mean score, and frames with a mask">'
        f'<b>{row.scores.mean():.2f}</b> {row.found}/{len(row.scores)}</span>'
    )


def show_scores(outcome: Outcome) -> str:
    """Return the plot of the scores."""
    rows = outcome.rows
    return plot_scores(
        [row.text for row in rows],
        [row.scores for row in rows],
        outcome.times,
        outcome.seconds,
        [colour_of(number) for number in range(len(rows))],
    )
