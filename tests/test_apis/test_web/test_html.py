# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""What visitors read."""

import numpy as np
import pytest

from referformer.apis.web import html
from referformer.apis.web.run import Outcome, RowResult, Status
from referformer.apis.web.visit import VideoFacts

EVIL = '<img src=x onerror=alert(1)>'


@pytest.mark.parametrize(
    ('seconds', 'text'),
    [
        (0, '1 s'),
        (7.4, '7 s'),
        (89, '89 s'),
        (91, '2 min'),
        (3599, '60 min'),
        (9000, '2.5 h'),
    ],
)
def test_times(seconds, text):
    assert html.duration(seconds) == text


@pytest.mark.parametrize(
    ('ahead', 'text'),
    [(0, 'next'), (1, 'One run is before'), (5, '5 runs are before')],
)
def test_the_place_in_the_line(ahead, text):
    shown = html.show_status(Status('waiting', ahead))
    assert text in shown
    assert 'value' not in shown  # a bar that moves by itself


def test_progress():
    shown = html.show_status(Status('working', 0, 'Looking', 0.256, 12.3))
    assert 'value="26"' in shown
    assert 'Looking' in shown
    assert 'about 12 s left' in shown
    assert 'left' not in html.show_status(Status('working', 0, 'Looking'))


def test_what_is_said_about_a_video():
    facts = VideoFacts('x.mp4', (64, 48), 12.34, 0)
    assert '64 × 48 pixels, 12.3 s<' in html.show_facts(facts, 30)
    assert 'at most 10 s' in html.show_facts(facts, 10)
    cut = html.show_facts(facts._replace(missing=3), 30)
    assert '3 frames are missing' in cut
    assert 'warning' in cut


def test_what_visitors_write_is_no_html():
    scores = np.array([0.5, 0.7])
    row = RowResult(EVIL, scores, 1)
    outcome = Outcome([row], np.array([0, 0.5]), 1.0, {}, 0)
    for shown in (
        html.show_status(Status('working', 0, EVIL)),
        html.show_message(EVIL, 'error'),
        html.show_scores(outcome),
        html.show_row(row),
    ):
        assert '<img' not in shown
    assert '<b>0.60</b> 1/2' in html.show_row(row)
    assert 'role="alert"' in html.show_message(EVIL, 'error')


def test_rows_have_the_colours_of_the_plot():
    rows = [RowResult(str(n), np.array([0.5]), 1) for n in range(3)]
    outcome = Outcome(rows, np.array([0.0]), 1.0, {}, 0)
    plot = html.show_scores(outcome)
    for number in range(3):
        colour = html.show_colour(number).split('background:')[1]
        assert colour.split(')')[0] in plot
