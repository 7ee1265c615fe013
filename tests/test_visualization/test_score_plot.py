# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Lines are where the scores are, and texts do no harm."""

import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from referformer.visualization.score_plot import plot_scores

COLOURS = [(230, 159, 0), (86, 180, 233)]


def draw(texts=('a', 'b'), times=(0, 0.5, 1.0), seconds=1.5):
    scores = [np.array([1.0, 0.5, 0.0]), np.array([0.25] * 3)]
    plot = plot_scores(texts, scores, np.array(times), seconds, COLOURS)
    return ET.fromstring(plot)


def lines(plot):
    return [p for p in plot.iter('polyline') if p.get('stroke')]


def test_lines_are_where_the_scores_are():
    found = [
        [tuple(map(float, p.split(','))) for p in line.get('points').split()]
        for line in lines(draw())
    ]
    times = [0, 333.3, 666.7, 1000]
    assert found[0] == list(zip(times, [0, 50, 100, 100], strict=True))
    assert found[1] == [(x, 75) for x in times]
    colours = [line.get('stroke') for line in lines(draw())]
    assert colours == ['rgb(230, 159, 0)', 'rgb(86, 180, 233)']


def test_the_script_of_the_page_gets_the_times():
    plot = draw()
    assert json.loads(plot.get('data-times')) == [0, 0.5, 1]
    assert float(plot.get('data-seconds')) == pytest.approx(1.5)


def test_expressions_are_no_html():
    text = '<img src=x onerror="alert(1)"> & "him"'
    plot = draw((text, 'b'))
    assert not list(plot.iter('img'))
    assert lines(plot)[0].find('title').text == text


@pytest.mark.parametrize('seconds', [0.04, 1.5, 9, 30, 3600])
def test_there_are_a_few_labels(seconds):
    plot = draw(times=np.array([0, 0.3, 0.6]) * seconds, seconds=seconds)
    axis = next(e for e in plot.iter() if e.get('class') == 'axis-x')
    labels = [float(span.text.removesuffix(' s')) for span in axis]
    assert 1 <= len(labels) <= 9
    for label, span in zip(labels, axis, strict=True):
        left = float(re.search(r'left:([\d.]+)%', span.get('style'))[1])
        assert left == pytest.approx(100 * label / seconds, abs=0.01)
