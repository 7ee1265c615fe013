# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The page of a run, and what it is made of."""

import io
import json
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from referformer.media.animation import encode_animation
from referformer.testing.quickstart_report import (
    make_bars,
    make_charts,
    read_curves,
)
from referformer.testing.report import (
    Bar,
    Clip,
    Figure,
    Report,
    Step,
    plot,
    render_report,
    round_ticks,
)

HOSTILE = '<script>alert("&")</script>'


class Page(HTMLParser):
    """Elements of a page with their attributes, and its text."""

    VOID = frozenset({'meta', 'img', 'line', 'polyline', 'circle', 'br'})

    def __init__(self, html):
        super().__init__()
        self.elements = []
        self.text = ''
        self.open = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ['style']:
            self.text += data

    def named(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


def a_report(**changes):
    clip = Clip(HOSTILE, 'video-1/0', 91.4, 'motion', b'webp')
    return Report(
        title='A run',
        summary=HOSTILE,
        figures=[Figure('J&F', '76.1', '50.2', 'of 100')],
        charts=[plot('Loss', [(0, 3), (40, 2.5)], 'iterations')],
        bars=[Bar('motion', 12, 70.0, 8.0, 30.0), Bar('kind', 9, 88.0, 5.0)],
        clips=[clip] * 3,
        worst=[clip],
        steps=[Step('Train', 'python tools/train.py', 61.2)],
        commands=[('Go on:', f'python tools/demo.py {HOSTILE}')],
        facts=[('Machine', 'a processor')],
    )._replace(**changes)


def test_page_holds_everything_and_loads_nothing():
    html = render_report(a_report())
    page = Page(html)
    assert not page.open
    for text in ('J&F', '76.1', '50.2', '61 s', 'python tools/train.py'):
        assert text in page.text
    assert 'J 91' in page.text
    assert [len(page.named(tag)) for tag in ('img', 'svg', 'dt')] == [4, 1, 2]
    assert page.text.count(HOSTILE) == 6
    assert not {'script', 'link', 'iframe'} & {tag for tag, _ in page.elements}
    for attrs in dict.fromkeys(map(str, page.elements)):
        assert 'http' not in attrs
    assert all(
        attrs['src'].startswith('data:image/webp;base64,')
        and attrs['alt'].endswith(HOSTILE)
        for attrs in page.named('img')
    )
    assert 'url(' not in html
    assert '@import' not in html


def test_page_without_what_is_not_known():
    page = Page(render_report(a_report(charts=[], bars=[], worst=[])))
    assert not page.open
    assert not page.named('svg')
    assert 'Where it fails' not in page.text
    assert 'before the training' not in page.text


@pytest.mark.parametrize(
    ('end', 'ticks'),
    [
        (100, [0, 20, 40, 60, 80, 100]),
        (7, [0, 2, 4, 6, 8]),
        (0.3, [0, 0.1, 0.2, 0.3]),
        (1480, [0, 500, 1000, 1500]),
        (0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
    ],
)
def test_round_ticks(end, ticks):
    assert round_ticks(end) == ticks


@pytest.mark.parametrize('top', [None, 100])
def test_a_curve_stays_within_its_axes(top):
    values = np.random.default_rng(0).uniform(0, 90, 50)
    chart = plot('', list(enumerate(values)), 'x', top, [(10, 'second')])
    points = [tuple(map(float, p.split(','))) for p in chart.path.split()]
    low, high = chart.y_ticks[0][0], chart.y_ticks[-1][0]
    assert all(low >= y >= high for _, y in points)
    xs = [x for x, _ in points]
    assert xs == sorted(xs)
    # proportional to the values
    ys = np.array([y for _, y in points])
    assert np.corrcoef(ys, values)[0, 1] == pytest.approx(-1, abs=1e-3)
    assert chart.end == (*points[-1], f'{values[-1]:.3g}')
    assert chart.parts == [(points[10][0], 'second')]


def test_one_point_and_zeros_are_drawn():
    assert plot('', [(0, 0)], 'x').path == '40.0,186.0'


# -- what the files of a quickstart say ---------------------------------------


def log(folder, name, lines):
    path = folder / name / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text(''.join(f'{json.dumps(line)}\n' for line in lines))


def test_curves_of_trainings_that_were_resumed(tmp_path):
    first, second = tmp_path / 'a', tmp_path / 'b'
    log(first, '1', [{'loss': 9, 'step': 10}, {'loss': 8, 'step': 20}])
    log(first, '2', [{'loss': 7, 'step': 20}, {'loss': 6, 'step': 30}])
    score = {'refer/J&F': 55.5, 'refer/J': 50, 'step': 1}
    log(second, '1', [{'loss': 5, 'step': 10}, score])
    curves = read_curves([first, second])
    assert curves.loss == [(10, 9), (20, 7), (30, 6), (40, 5)]
    assert curves.score == [(40, 55.5)]
    assert curves.begins == [0, 30]
    loss, jf = make_charts(curves, ['a', 'b'])
    assert [name for _, name in loss.parts] == ['a', 'b']
    assert jf.y_ticks[-1][1] == '100'
    assert make_charts(read_curves([tmp_path / 'none']), ['c']) == []


def table(**scores):
    entries = {
        name: {'J&F': score, 'J': score, 'text': name}
        for name, score in scores.items()
    }
    for name, entry in entries.items():
        if name.startswith('m'):
            entry['attributes'] = {'cue': 'motion'}
    return {'per_expression': entries}


def test_bars_by_cue():
    mentions = {'a': ['colour', 'kind'], 'b': ['colour'], 'm1': ['colour']}
    right = table(a=80, b=60, m1=50)
    wrong = table(a=10, b=20, m1=30)
    bars = make_bars(right, wrong, mentions, table(a=0, b=40))
    assert bars == [
        Bar('colour', 2, 70, 15, 20),
        Bar('kind', 1, 80, 10, 0),
        Bar('motion', 1, 50, 30, None),
    ]


def test_an_animation_keeps_frames_and_time():
    frames = np.zeros((5, 24, 32, 3), np.uint8)
    for t, frame in enumerate(frames):
        frame[:, 6 * t : 6 * t + 6] = (250, 120, 30)
    data = encode_animation(frames, fps=4)
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == 'WEBP'
        assert image.n_frames == 5
        for t, frame in enumerate(frames):
            image.seek(t)
            image.load()
            assert image.info['duration'] == 250
            error = np.asarray(image.convert('RGB')).astype(float) - frame
            assert np.abs(error).mean() < 12
