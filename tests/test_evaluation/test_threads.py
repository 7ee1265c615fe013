# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Scoring in threads beside the model."""

import threading

import numpy as np
import pytest
import torch

from referformer.errors import ConfigError, DataError
from referformer.evaluation.metrics import ReferVOSMetric, threads
from referformer.evaluation.metrics.threads import ScoringThreads

from .helpers import SHAPE, ClipSet, make_sample


def test_results_are_those_of_one_thread(tmp_path):
    clips = ClipSet(12)
    samples = [clips.sample(index) for index in range(12)]
    tables = []
    for workers in (0, 1, 3):
        path = tmp_path / f'{workers}.json'
        metric = ReferVOSMetric(workers=workers, outfile=str(path))
        for index in range(0, 12, 2):
            metric.process(None, samples[index : index + 2])
        scores = metric.evaluate(12)
        # To the last bit, and in the same order.
        tables.append((scores, path.read_text()))
    assert tables[0] == tables[1] == tables[2]
    # The metric can be used again, as in validation after each epoch.
    metric.process(None, samples)
    assert metric.evaluate(12) == scores


def test_masks_do_not_pile_up():
    begun, go_on = [], threading.Event()

    def score(batch):
        begun.append(batch)
        go_on.wait(10)
        return [batch]

    scoring = ScoringThreads(1)
    results = [scoring.run(score, 0), scoring.run(score, 1)]
    threading.Timer(0.2, go_on.set).start()
    # A third batch waits for the first.
    results.append(scoring.run(score, 2))
    assert go_on.is_set()
    assert scoring.finish(results) == [[0], [1], [2]]
    assert begun == [0, 1, 2]


def test_errors_reach_the_caller():
    good = ClipSet(1).sample(0)
    bad = make_sample('w', '0', *np.zeros((2, 1, *SHAPE), bool))
    bad.video_data_samples[0].pred_track_instances.masks = torch.ones(
        1, 8, 9, dtype=torch.bool
    )
    metric = ReferVOSMetric(workers=1)
    metric.process(None, [bad.to_dict()])
    with pytest.raises(DataError, match='is 9 x 8'):
        [metric.process(None, [good]) for _ in range(8)]
    metric = ReferVOSMetric(workers=1)
    metric.process(None, [bad.to_dict()])
    with pytest.raises(DataError, match='is 9 x 8'):
        metric.evaluate(1)


def test_number_of_threads(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert ScoringThreads().workers == 0
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    for cores, workers in ((2, 0), (4, 2), (64, 2)):
        monkeypatch.setattr(threads, 'count_cores', lambda n=cores: n)
        assert ScoringThreads().workers == workers
    with pytest.raises(ConfigError, match='workers is -1'):
        ReferVOSMetric(workers=-1)
