# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import json
import os

import pytest
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.dataset import DefaultSampler

from referformer.evaluation.metrics import ReferSubmission, ReferVOSMetric

from .helpers import ClipSet

NUM_CLIPS = 7


def evaluate(clips, folder, expressions):
    """What the test loop does, in one of any number of processes."""
    metrics = [
        ReferVOSMetric(outfile=str(folder / 'table.json')),
        ReferSubmission(expressions, str(folder / 'submission')),
    ]
    # round_up repeats the first clips until all processes have equally many.
    sampler = DefaultSampler(clips, shuffle=False, round_up=True)
    for index in sampler:
        for metric in metrics:
            metric.process(None, [clips.sample(index)])
    scores = {}
    for metric in metrics:
        scores.update(metric.evaluate(len(clips)))
    return scores, len(sampler)


def run_rank(rank, world_size, folder, expressions):
    os.chdir(folder)  # mmengine gathers results under the working folder
    dist.init_process_group(
        'gloo',
        init_method=f'file://{folder}/rendezvous',
        rank=rank,
        world_size=world_size,
    )
    scores, length = evaluate(ClipSet(NUM_CLIPS), folder, expressions)
    (folder / f'rank{rank}.json').write_text(json.dumps([scores, length]))
    dist.destroy_process_group()


def test_two_processes_score_like_one(tmp_path):
    clips = ClipSet(NUM_CLIPS)
    expressions = clips.write_expressions(tmp_path / 'expressions.json')
    (tmp_path / 'one').mkdir()
    (tmp_path / 'two').mkdir()
    alone, length = evaluate(clips, tmp_path / 'one', expressions)
    assert length == NUM_CLIPS
    assert 0 < alone['refer/J&F'] < 100

    arguments = (2, tmp_path / 'two', expressions)
    mp.start_processes(run_rank, arguments, 2, start_method='fork')
    for rank in range(2):
        text = (tmp_path / 'two' / f'rank{rank}.json').read_text()
        scores, length = json.loads(text)
        # Eight samples for seven clips: one clip went through twice.
        assert length == 4
        assert scores == alone
    for name in ('table.json', 'submission/submission.zip'):
        assert (tmp_path / 'two' / name).read_bytes() == (
            tmp_path / 'one' / name
        ).read_bytes()


def test_a_repeat_would_show(tmp_path):
    # The test above could not fail if the repeated clip scored the mean.
    clips = ClipSet(NUM_CLIPS)
    expressions = clips.write_expressions(tmp_path / 'expressions.json')
    alone, _ = evaluate(clips, tmp_path, expressions)
    metric = ReferVOSMetric()
    metric.process(None, [clips.sample(0)])
    assert metric.evaluate(1)['refer/J&F'] != pytest.approx(
        alone['refer/J&F'], abs=1
    )
