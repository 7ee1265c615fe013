# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Charts of trainings, as a picture and as a page."""

import html
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from referformer.formats.files import atomic_path, write_atomic
from referformer.formats.run_logs import Curve, RunLog

# Colours that people of any sight tell apart (Okabe and Ito, 2008).
_COLOURS = (
    *('#0072B2', '#D55E00', '#009E73', '#CC79A7'),
    *('#E69F00', '#56B4E9', '#000000', '#B3A800'),
)
_TITLES = {
    'lr': 'learning rate',
    'grad_norm': 'norm of the gradients',
    'time': 'time of an iteration, s',
    'data_time': 'of it waiting for data, s',
    'memory': 'memory of the GPU, MiB',
}
_COLUMNS = 4
# More points than a panel has pixels only make the page larger.
_POINTS = 1000
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto;
       max-width: 1200px; padding: 0 1em; color: #222; background: #fff }
svg { width: 100%; height: auto }
table { border-collapse: collapse; margin: 1em 0 }
th, td { text-align: left; padding: .2em 1em .2em 0; vertical-align: top;
         border-bottom: 1px solid #ddd }
td.number { text-align: right; font-variant-numeric: tabular-nums }
code { overflow-wrap: anywhere }
"""


def draw_runs(runs: Mapping[str, RunLog]) -> Figure:
    """Draw a panel for each measure, and a line for each run.

    Where a run has more than 100 values, a line of their running median is
    drawn over them. A dashed line stands where a run was resumed.

    Args:
        runs (Mapping[str, RunLog]): Name -> run.
    """
    panels = list(_panels_of(runs))
    rows = -(-len(panels) // _COLUMNS)
    figure = Figure(
        figsize=(4 * _COLUMNS, 2.6 * rows + 0.6), layout='constrained'
    )
    grid = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    for axes, (key, curves) in zip(grid, panels, strict=False):
        _draw_panel(axes, key, runs, curves)
    resumed = any(run.resumed for run in runs.values())
    figure.supxlabel(
        f'iteration{" (dashed: the run was resumed)" * resumed}', fontsize=10
    )
    lines = [
        Line2D([], [], color=_colour(i), linewidth=3) for i in range(len(runs))
    ]
    figure.legend(
        lines,
        [_plain(name) for name in runs],
        loc='outside upper left',
        ncols=4,
        frameon=False,
    )
    return figure


def _panels_of(
    runs: Mapping[str, RunLog],
) -> Iterator[tuple[str, dict[str, Curve]]]:
    """Yield measure and curves: losses, scores, the rest; no inner layer."""
    keys: dict[str, None] = {}
    for run in runs.values():
        keys |= dict.fromkeys(run.training)
    keys = {key: None for key in keys if not re.match(r'd\d+\.', key)}
    losses = [key for key in keys if key.startswith('loss')]
    for key in losses:
        yield key, _curves(runs, 'training', key)
    scores: dict[str, None] = {}
    for run in runs.values():
        scores |= dict.fromkeys(run.scores)
    for key in scores:
        yield key, _curves(runs, 'scores', key)
    others = [key for key in keys if key not in losses]
    order = list(_TITLES)
    for key in sorted(
        others, key=lambda k: order.index(k) if k in order else len(order)
    ):
        yield key, _curves(runs, 'training', key)


def _curves(
    runs: Mapping[str, RunLog], kind: str, key: str
) -> dict[str, Curve]:
    found = {name: getattr(run, kind).get(key) for name, run in runs.items()}
    return {name: curve for name, curve in found.items() if curve}


def _draw_panel(
    axes: Axes,
    key: str,
    runs: Mapping[str, RunLog],
    curves: Mapping[str, Curve],
) -> None:
    all_values: list[np.ndarray] = []
    for index, (name, run) in enumerate(runs.items()):
        if name not in curves:
            continue
        colour, curve = _colour(index), curves[name]
        at, values = np.array(curve.iterations), np.array(curve.values)
        for begin in run.resumed:
            axes.axvline(
                begin, color=colour, alpha=0.5, linewidth=0.8, linestyle='--'
            )
        if key in run.scores:
            axes.plot(at, values, color=colour, marker='o', markersize=4)
        elif len(at) <= 100 or key == 'lr':
            axes.plot(*_thin(at, values), color=colour, linewidth=1.5)
        else:
            axes.plot(
                *_thin(at, values), color=colour, alpha=0.25, linewidth=0.8
            )
            values = _running_median(values, max(5, len(at) // 50))
            axes.plot(*_thin(at, values), color=colour, linewidth=1.5)
        all_values.append(values[np.isfinite(values)])
    known = np.concatenate(all_values) if all_values else np.zeros(0)
    wide = len(known) and known.min() > 0 and known.max() > 30 * known.min()
    if wide and (key.startswith('loss') or key == 'grad_norm'):
        axes.set_yscale('log')
    axes.set_title(_plain(_TITLES.get(key, key)), fontsize=11, loc='left')
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=''))
    axes.tick_params(labelsize=9)
    axes.grid(color='#e5e5e5', linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)


def _colour(index: int) -> str:
    return _COLOURS[index % len(_COLOURS)]


def _plain(text: str) -> str:
    """Escape what Matplotlib takes for a formula, or for no label."""
    text = ''.join(c if c.isprintable() else '?' for c in text)
    text = text.replace('$', r'\$')
    return f' {text}' if text.startswith('_') else text


def _thin(at: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keep every n-th point, and the last."""
    step = -(-len(at) // _POINTS)
    chosen = np.unique(np.append(np.arange(0, len(at), step), len(at) - 1))
    return at[chosen], values[chosen]


def _running_median(values: np.ndarray, width: int) -> np.ndarray:
    """Median of the ``width`` values around each one, fewer at the ends."""
    half = width // 2
    padded = np.pad(values, half, constant_values=np.nan)
    padded = np.where(np.isfinite(padded), padded, np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1)
    empty = np.isnan(windows).all(1)
    result = np.full(len(values), np.nan)
    result[~empty] = np.nanmedian(windows[~empty], 1)
    return result


def write_charts(
    runs: Mapping[str, RunLog], picture: Path, page: Path
) -> None:
    """Write the charts as PNG, and with the records of the runs as HTML.

    Args:
        runs (Mapping[str, RunLog]): Name -> run.
        picture (Path): The PNG.
        page (Path): The HTML, which needs no other file.
    """
    figure = draw_runs(runs)
    with atomic_path(picture) as temporary:
        figure.savefig(temporary, dpi=110)
    vector = io.StringIO()
    with matplotlib.rc_context({'svg.hashsalt': 'runs'}):
        figure.savefig(vector, format='svg', metadata={'Date': None})
    svg = vector.getvalue()
    write_atomic(
        page,
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        f'<title>Trainings</title><style>{_STYLE}</style></head>\n<body>\n'
        f'{svg[svg.index("<svg") :]}\n'
        + '\n'.join(_describe(name, run) for name, run in runs.items())
        + '</body></html>\n',
    )


def summary_of(run: RunLog) -> list[tuple[str, str, str]]:
    """Return measure, last value, and best value with its iteration."""
    rows = []
    for key, curve in {**run.training, **run.scores}.items():
        if re.match(r'd\d+\.', key):
            continue
        best = curve.best(greatest=key in run.scores)
        judged = key in run.scores or key.startswith('loss')
        rows.append(
            (
                _TITLES.get(key, key),
                f'{curve.values[-1]:.5g}',
                f'{best[1]:.5g} at {best[0]}' if best and judged else '',
            )
        )
    return rows


def _describe(name: str, run: RunLog) -> str:
    """Return one run as HTML: its records, and its last and best values."""
    last = run.training['loss'].iterations[-1]
    text = f'<h2>{html.escape(name)}</h2>\n<p>{last} iterations'
    if run.resumed:
        text += f', resumed {len(run.resumed)} times'
    text += '</p>\n'
    for record in run.records:
        text += _table(
            (key, '', f'<code>{html.escape(_one_line(value))}</code>')
            for key, value in record.items()
        )
    rows = [('measure', '', 'last', 'best')]
    return text + _table(
        [
            *rows,
            *(
                (html.escape(key), 'number', *map(html.escape, values))
                for key, *values in summary_of(run)
            ),
        ]
    )


def _one_line(value: Any) -> str:
    """Write an entry of a record."""
    if isinstance(value, Mapping):
        return ', '.join(f'{k} {v}' for k, v in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ', '.join(map(str, value)) or 'none'
    return str(value)


def _table(rows: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> str:
    """Return rows of (head, class of the cells, *cells) as HTML."""
    lines = []
    for head, kind, *cells in rows:
        attribute = f' class="{kind}"' if kind else ''
        line = ''.join(f'<td{attribute}>{cell}</td>' for cell in cells)
        lines.append(f'<tr><th>{html.escape(head)}</th>{line}</tr>')
    return '<table>' + '\n'.join(lines) + '</table>\n'
