# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""What a training came to, as one page: ``report.html``.

The page holds its pictures and styles, loads nothing and runs no script. Its
text and layout are the template ``report.html.jinja``; here are its contents
as tuples, and the geometry of its curves.
"""

import base64
import math
from collections.abc import Sequence
from typing import NamedTuple

import jinja2

#: Size of a chart in the units of its drawing, and the margins of its axes.
_WIDTH, _HEIGHT = 360, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 14, 24, 34


class Figure(NamedTuple):
    """A number of the head of the page.

    Attributes:
        name: What it counts.
        value: The number as text, with its unit.
        before: Its value before the training, if known.
        note: How to read it.
    """

    name: str
    value: str
    before: str = ''
    note: str = ''


class Step(NamedTuple):
    """A step of the run.

    Attributes:
        title: What was done.
        command: The command that did it.
        seconds: How long it took.
    """

    title: str
    command: str
    seconds: float


class Bar(NamedTuple):
    """Scores of the expressions with one cue, in percent.

    Attributes:
        name: The cue.
        count: Number of expressions.
        score: With the right expression.
        wrong: With the expression of another object.
        before: With the right one before the training, if known.
    """

    name: str
    count: int
    score: float
    wrong: float
    before: float | None = None


class Clip(NamedTuple):
    """A scored clip.

    Attributes:
        text: The expression.
        name: Video and expression, as in the table of scores.
        score: J in percent.
        cue: What the expression mentions.
        picture: The clip with its masks, an encoded WebP file.
    """

    text: str
    name: str
    score: float
    cue: str
    picture: bytes

    @property
    def data_uri(self) -> str:
        """The picture as the address of an ``img`` element."""
        code = base64.b64encode(self.picture).decode('ascii')
        return f'data:image/webp;base64,{code}'


class Chart(NamedTuple):
    """A curve, ready to be drawn.

    Attributes:
        title: What the curve shows.
        x_title: What is on the horizontal axis.
        path: ``x,y`` of its points.
        ends: The last point, and its value as text.
        x_ticks: Positions and labels on the horizontal axis.
        y_ticks: Likewise on the vertical axis.
        parts: Where parts of the curve begin, and their names.
    """

    title: str
    x_title: str
    path: str
    end: tuple[float, float, str]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    parts: list[tuple[float, str]]


class Report(NamedTuple):
    """The contents of the page.

    Attributes:
        title: Its heading.
        summary: What was done, in one or two sentences.
        figures: Numbers of its head.
        charts: Curves of the training.
        bars: Scores by cue.
        clips: Clips chosen without looking at their scores.
        worst: The clips with the lowest scores.
        steps: Steps of the run.
        commands: What to do next: a sentence and a command each.
        facts: Names and values of the small print.
    """

    title: str
    summary: str
    figures: Sequence[Figure]
    charts: Sequence[Chart]
    bars: Sequence[Bar]
    clips: Sequence[Clip]
    worst: Sequence[Clip]
    steps: Sequence[Step]
    commands: Sequence[tuple[str, str]]
    facts: Sequence[tuple[str, str]]


def plot(
    title: str,
    points: Sequence[tuple[float, float]],
    x_title: str,
    top: float | None = None,
    parts: Sequence[tuple[float, str]] = (),
) -> Chart:
    """Lay out a curve.

    Args:
        title: What it shows.
        points: At least one (x, y), none negative, in order of x.
        x_title: What x is.
        top: End of the vertical axis. Defaults to None: above the highest
            point.
        parts: Where parts of the curve begin, and their names.
    """
    xs, ys = zip(*points, strict=True)
    x_ticks, y_ticks = round_ticks(max(xs)), round_ticks(top or max(ys))
    x_end, y_end = max(xs[-1], x_ticks[1]), top or y_ticks[-1]

    def across(x: float) -> float:
        return round(_LEFT + x / x_end * (_WIDTH - _LEFT - _RIGHT), 1)

    def down(y: float) -> float:
        share = min(y, y_end) / y_end
        return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM), 1)

    return Chart(
        title,
        x_title,
        ' '.join(f'{across(x)},{down(y)}' for x, y in points),
        (across(xs[-1]), down(ys[-1]), f'{ys[-1]:.3g}'),
        [(across(x), f'{x:g}') for x in x_ticks if x <= x_end],
        [(down(y), f'{y:g}') for y in y_ticks if y <= y_end],
        [(across(x), name) for x, name in parts],
    )


def round_ticks(end: float, most: int = 5) -> list[float]:
    """Return round numbers from 0 to ``end`` or a little above.

    Args:
        end: A value that the axis shows, not negative.
        most: Number of steps, at most.
    """
    end = end or 1.0
    power = 10.0 ** math.floor(math.log10(end / most))
    step = next(n * power for n in (1, 2, 5, 10) if n * power * most >= end)
    return [round(n * step, 12) for n in range(math.ceil(end / step) + 1)]


def render_report(report: Report) -> str:
    """Return the page as HTML; whatever the report says is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader('referformer.testing', '.'),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template('report.html.jinja')
    size = {'width': _WIDTH, 'height': _HEIGHT}
    frame = {'left': _LEFT, 'right': _RIGHT, 'top': _TOP, 'bottom': _BOTTOM}
    return template.render(report._asdict(), size=size, frame=frame)
