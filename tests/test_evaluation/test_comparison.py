# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Comparing two results."""

import itertools
import json
import math

import numpy as np
import pytest

from referformer.errors import ConfigError, DataError
from referformer.evaluation.functional.comparison import (
    Unit,
    clustered_interval,
    compare_scores,
    differing_most,
    format_comparison,
    read_units,
)


def simulate(rng, draws, videos):
    """Differences of two models, made up, in clusters.

    A video has 1 to 8 expressions and an effect that they share; now and then
    one model finds an object that the other misses, so tails are long.

    Returns the sums and numbers of each video, and the true mean.
    """
    shape = draws, videos
    sizes, sums = rng.integers(1, 9, shape), np.zeros(shape)
    effects = rng.normal(0.02, 0.06, shape)
    for k in range(8):
        single = effects + rng.normal(0, 0.1, shape)
        jumps = rng.choice([-0.5, 0.6], shape)
        single += np.where(rng.random(shape) < 0.05, jumps, 0)
        sums += np.where(k < sizes, single, 0)
    return sums, sizes.astype(float), 0.02 + 0.05 * 0.05


def coverage(draws, videos, level=0.9, seed=0):
    sums, sizes, mean = simulate(np.random.default_rng(seed), draws, videos)
    found = clustered_interval(sums, sizes, level, resamples=1000)
    return ((found.low <= mean) & (mean <= found.high)).mean()


def test_the_interval_covers_what_it_says():
    # 88 to 92 % is three standard deviations of 2 000 draws.
    assert 0.88 < coverage(2000, 50) < 0.92


@pytest.mark.slow
@pytest.mark.parametrize('videos', [20, 30, 100])
@pytest.mark.parametrize('level', [0.9, 0.95])
def test_coverage_with_few_and_many_videos(videos, level):
    slack = 0.02
    assert abs(coverage(2000, videos, level, seed=1) - level) < slack


def test_all_resamples_of_three_videos():
    sums, weights = np.array([1.0, 6.0, -2.0]), np.array([1.0, 2.0, 3.0])
    found = clustered_interval(sums, weights, level=0.5, resamples=40000)
    assert found.mean == 5 / 6
    means = sorted(
        sums[list(drawn)].sum() / weights[list(drawn)].sum()
        for drawn in itertools.product(range(3), repeat=3)
    )
    # Student's t with 2 degrees of freedom, times sqrt(3 / 2): 1.0 normal.
    tail = 0.5 * math.erfc(math.sqrt(1.5) * 0.81650 / math.sqrt(2))
    low, high = np.quantile(means, [tail, 1 - tail], method='inverted_cdf')
    assert found.low == pytest.approx(low)
    assert found.high == pytest.approx(high)


def test_expressions_of_a_video_are_not_independent():
    rng = np.random.default_rng(0)
    effects = rng.normal(0, 0.1, 30)
    videos = clustered_interval(8 * effects, np.full(30, 8.0))
    single = clustered_interval(np.repeat(effects, 8), np.ones(240))
    assert videos.mean == pytest.approx(single.mean)
    # Eight copies of the same number say nothing new.
    assert videos.high - videos.low > 2.5 * (single.high - single.low)
    again = clustered_interval(8 * effects, np.full(30, 8.0))
    assert again == videos


def units(scores, **attributes):
    """Units of a table {name: J&F}; attributes {name: type}."""
    return {
        name: Unit(
            name.rpartition('/')[0],
            1,
            {'J&F': value, 'J': value / 2},
            {'type': attributes[name[-1]]} if name[-1] in attributes else {},
            text=f'the {name}',
        )
        for name, value in scores.items()
    }


A = {'v/a': 0.5, 'v/b': 0.25, 'w/a': 1.0, 'x/a': 0.0}
B = {'v/a': 0.75, 'v/b': 0.25, 'w/a': 0.5, 'x/a': 1.0}


def test_by_hand():
    kinds = {'a': 'static', 'b': 'dynamic'}
    report = compare_scores(
        units(A, **kinds), units(B), group_by=['type'], seed=3
    )
    assert report['measure'] == 'J&F'
    assert list(report['groups']) == ['all', 'type=dynamic', 'type=static']
    whole = report['groups']['all']
    assert (whole['A'], whole['B']) == (1.75 / 4, 2.5 / 4)
    assert whole['difference'] == 0.75 / 4
    assert whole['low'] < 0 < whole['high']
    assert (whole['num'], whole['num_videos']) == (4, 3)
    assert (whole['better'], whole['equal'], whole['worse']) == (2, 1, 1)
    alone = report['groups']['type=dynamic']
    assert (alone['difference'], alone['low'], alone['high']) == (
        0,
        None,
        None,
    )
    # The largest differences come first; what is equal is not among them.
    assert differing_most(report, 20) == ['x/a', 'w/a', 'v/a']
    assert differing_most(report, 2) == ['x/a', 'w/a']
    assert report['units']['w/a'] == {
        'A': 1.0,
        'B': 0.5,
        'difference': -0.5,
        'text': 'the w/a',
    }
    json.dumps(report)
    text = format_comparison(report, top=2)
    assert '  43.75  62.50  +18.75' in text
    assert 'one video' in text
    assert text.splitlines()[-2:] == [
        '   0.00 100.00 +100.00  x/a  the x/a',
        ' 100.00  50.00  -50.00  w/a  the w/a',
    ]
    # Turned round, all is the same with the other sign.
    other = compare_scores(units(B), units(A), seed=3)['groups']['all']
    assert other['difference'] == -whole['difference']
    assert other['low'] == pytest.approx(-whole['high'], abs=0.02)


def test_equal_results():
    report = compare_scores(units(A), units(A), 'J')
    whole = report['groups']['all']
    assert (whole['difference'], whole['low'], whole['high']) == (0, 0, 0)
    assert whole['equal'] == 4
    assert differing_most(report, 20) == []
    assert 'differ most' not in format_comparison(report)


def test_what_cannot_be_compared():
    less = {name: value for name, value in A.items() if name != 'x/a'}
    with pytest.raises(DataError, match='only B has 1: x/a'):
        compare_scores(units(less), units(A))
    with pytest.raises(ConfigError, match=r"'tIoU' .* have: J&F, J\."):
        compare_scores(units(A), units(B), 'tIoU')
    with pytest.raises(ConfigError, match="attribute 'type'"):
        compare_scores(units(A), units(B), group_by=['type'])


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / 'scores.json'
        path.write_text(json.dumps(content))
        return path

    return write


def test_files_of_expressions(write):
    entry = {'J&F': 50, 'J': 25, 'num_frames': 7, 'has_target': True}
    entry |= {'text': 'a cat', 'attributes': {'type': 'static'}}
    table = {'set/v/0': entry, 'w/0': {'J&F': 10, 'J': 5, 'num_frames': 3}}
    found = read_units(write({'unit': 'percent', 'per_expression': table}))
    assert found['set/v/0'] == Unit(
        'set/v', 1, {'J&F': 0.5, 'J': 0.25}, {'type': 'static'}, 'a cat'
    )
    assert found['w/0'].video == 'w'
    # Fractions, and a sentence that names its video itself.
    table = {'v_a_f_1_i_1': {'video': 'a', 'IoU': 0.5}}
    found = read_units(write({'protocol': {}, 'per_expression': table}))
    assert found['v_a_f_1_i_1'] == Unit('a', 1, {'IoU': 0.5}, {})


def test_objects_are_joined_to_videos(write):
    objects = {
        'set/v_1': {'J': [0.5, 0, 0], 'F': [1.0, 0, 0]},
        'set/v_2': {'J': [0.0, 0, 0], 'F': [0.5, 0, 0]},
        'w_1': {'J': [1.0, 0, 0], 'F': [1.0, 0, 0]},
    }
    found = read_units(write({'J&F': 0.67, 'per_object': objects}))
    assert found['set/v'] == Unit(
        'set/v', 2, {'J&F': 0.5, 'J': 0.25, 'F': 0.75}, {}
    )
    # A mean over objects, as the file reports it.
    whole = compare_scores(found, found)['groups']['all']
    assert whole['A'] == pytest.approx((2 * 0.5 + 1) / 3)
    annotators = {f'anno_{i}': {'per_object': objects} for i in range(4)}
    found = read_units(write({'per_annotator': annotators}))
    assert found['set/v'].weight == 8


@pytest.mark.parametrize(
    'content',
    [{'refer/J&F': 50.0}, [], {'per_annotator': {'anno_0': {'J': 1}}}],
)
def test_files_without_scores_of_expressions(write, content):
    with pytest.raises(DataError, match=r'means only.*outfile'):
        read_units(write(content))


def test_broken_files(write):
    with pytest.raises(DataError, match='no score'):
        read_units(write({'per_expression': {'v/0': 3}}))
    with pytest.raises(DataError, match='no score'):
        read_units(write({'per_object': {'v_1': {'J': 3}}}))
