# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""An interrupted test goes on where it stopped."""

import importlib
import json
import re
from concurrent.futures import Future
from typing import ClassVar

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch.utils.data import Dataset

from referformer.datasets.items import ItemId
from referformer.engine.loops import resumable_test_loop
from referformer.engine.loops.resumable_test_loop import Finished, Journal
from referformer.evaluation.metrics.threads import finished
from referformer.registry import DATASETS, METRICS, MODELS
from tests.faults import DATA, PROCESSES, fault

NUM_ITEMS = 7


@DATASETS.register_module(force=True)
class Numbers(Dataset):
    """Items that are their own data samples."""

    metainfo: ClassVar = dict(classes=('x',))

    def __init__(self, same_names=False, data_root='', ann_file=''):
        self.same_names = same_names

    def __len__(self):
        return NUM_ITEMS

    def get_data_info(self, index):
        name = 0 if self.same_names else index
        return dict(video_id=f'set/v{name}', exp_id='0', value=index / 7)

    def item_id(self, index):
        name = 0 if self.same_names else index
        return ItemId(f'set/v{name}', '0', None, None)

    def __getitem__(self, index):
        sample = BaseDataElement(metainfo=self.get_data_info(index))
        return dict(inputs=torch.zeros(1), data_samples=sample)


@MODELS.register_module(force=True)
class Echo(BaseModel):
    seen: list
    stop_at = None

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, inputs, data_samples, mode='predict'):
        for sample in data_samples:
            if sample.video_id == Echo.stop_at:
                raise KeyboardInterrupt
            Echo.seen.append(sample.video_id)
        return data_samples


@METRICS.register_module(force=True)
class Mean(BaseMetric):
    """Notes a tuple per batch, as this package's metrics do."""

    note = staticmethod(float)
    fail = False

    def process(self, data_batch, data_samples):
        self.results.append(
            [(s['video_id'], self.note(s['value'])) for s in data_samples]
        )

    def compute_metrics(self, results):
        if Mean.fail:
            raise OSError('no space')
        pairs = [tuple(pair) for entry in results for pair in entry]
        assert len(set(pairs)) == len(pairs) == NUM_ITEMS
        return dict(mean=sum(sorted(value for _, value in pairs)))


@pytest.fixture(autouse=True)
def reset():
    Echo.seen, Echo.stop_at = [], None
    Mean.fail, Mean.note = False, staticmethod(float)


def run(work_dir, batch_size=2, **changes):
    cfg = dict(
        model=dict(type='Echo'),
        test_dataloader=dict(
            dataset=dict(type='Numbers'),
            batch_size=batch_size,
            collate_fn=dict(type='pseudo_collate'),
            sampler=dict(type='DefaultSampler', shuffle=False),
        ),
        test_evaluator=[dict(type='Mean')],
        test_cfg=dict(type='ResumableTestLoop'),
        work_dir=str(work_dir),
        default_scope='referformer',
        # mmengine keeps one of each for each name
        experiment_name=f'{work_dir}-{np.random.default_rng().random()}',
    )
    cfg = Config(cfg)
    cfg.merge_from_dict(changes)
    return Runner.from_cfg(cfg).test()['mean']


def interrupt(work_dir, at='set/v4', **changes):
    Echo.stop_at = at
    with pytest.raises(KeyboardInterrupt):
        run(work_dir, **changes)
    Echo.stop_at = None
    Echo.seen.clear()


@fault(
    PROCESSES,
    'a test is interrupted',
    'run again, it predicts the missing items only; the scores are those of a'
    ' whole test',
)
def test_only_the_rest_is_predicted(tmp_path):
    whole = run(tmp_path / 'whole')
    assert Echo.seen == [f'set/v{i}' for i in range(NUM_ITEMS)]
    interrupt(tmp_path / 'parts')
    # bit by bit the same score
    assert run(tmp_path / 'parts') == whole
    assert Echo.seen == [f'set/v{i}' for i in (4, 5, 6)]
    # nothing is left: the next test starts anew
    assert not (tmp_path / 'parts/test_progress').exists()
    Echo.seen.clear()
    assert run(tmp_path / 'parts') == whole
    assert len(Echo.seen) == NUM_ITEMS


def test_two_interruptions(tmp_path):
    interrupt(tmp_path, batch_size=1)
    interrupt(tmp_path, at='set/v6', batch_size=1)
    run(tmp_path, batch_size=3)
    assert Echo.seen == ['set/v6']


def test_a_score_that_could_not_be_computed(tmp_path):
    Mean.fail = True
    with pytest.raises(OSError, match='no space'):
        run(tmp_path)
    Mean.fail = False
    Echo.seen.clear()
    run(tmp_path)
    assert Echo.seen == []


def test_scores_that_are_computed_in_the_background(tmp_path, monkeypatch):
    whole = run(tmp_path / 'whole')
    process, pending = Mean.process, {'set/v0'}

    def process_later(self, data_batch, data_samples):
        process(self, data_batch, data_samples)
        records, future = self.results.pop(), Future()
        if records[0][0] not in pending:
            future.set_result(records)
        self.results.append(future)

    def evaluate(self, size):
        self.results = [*map(finished, self.results)]
        return BaseMetric.evaluate(self, size)

    monkeypatch.setattr(Mean, 'process', process_later)
    monkeypatch.setattr(Mean, 'evaluate', evaluate)
    # The second batch is finished, but the first is not.
    interrupt(tmp_path / 'parts')
    assert not list((tmp_path / 'parts/test_progress').glob('*.jsonl'))
    pending.clear()
    interrupt(tmp_path / 'parts')
    assert run(tmp_path / 'parts') == whole
    assert Echo.seen == ['set/v4', 'set/v5', 'set/v6']


@pytest.mark.parametrize(
    'changes',
    [
        {'test_cfg.fresh': True},
        {'model.init_cfg': None},
        {'test_evaluator.0.prefix': None},
    ],
    ids=['fresh', 'another model', 'another metric'],
)
def test_nothing_is_taken_over(tmp_path, changes):
    interrupt(tmp_path)
    if 'model.init_cfg' in changes:

        class Other(Echo):
            pass

        MODELS.register_module(name='Other', module=Other, force=True)
        changes = {'model.type': 'Other'}
    run(tmp_path, **changes)
    assert len(Echo.seen) == NUM_ITEMS


def test_notes_are_named_in_the_log(tmp_path):
    interrupt(tmp_path)
    run(tmp_path)
    *_, log = sorted(tmp_path.glob('*/*.log'))
    assert re.search(
        r'WARNING - 4 of 7 items .* 3 are left; --fresh predicts all again\n',
        log.read_text(),
    )


@fault(
    DATA,
    'an annotation file changes between two parts of a test',
    'nothing of the first part is taken over',
)
def test_an_annotation_file_that_changes(tmp_path):
    (tmp_path / 'data').mkdir()
    truth = tmp_path / 'data/truth.json'
    truth.write_text('old')
    changes = {
        'test_dataloader.dataset.data_root': str(truth.parent),
        'test_dataloader.dataset.ann_file': truth.name,
    }
    interrupt(tmp_path, **changes)
    truth.write_text('newer')
    run(tmp_path, **changes)
    assert len(Echo.seen) == NUM_ITEMS


@pytest.mark.parametrize('edited', ['metric', 'package'])
def test_code_that_changes(tmp_path, monkeypatch, edited):
    monkeypatch.syspath_prepend(tmp_path)
    own = tmp_path / f'own_metric_{edited}.py'
    own.write_text(
        'from referformer.registry import METRICS\n'
        'from tests.test_engine.test_resumable_test_loop import Mean\n\n'
        '@METRICS.register_module(force=True)\n'
        'class OwnMean(Mean):\n    pass\n'
    )
    importlib.import_module(own.stem)
    package = tmp_path / 'package'
    package.mkdir()
    (package / 'fusion.py').touch()
    monkeypatch.setattr(resumable_test_loop, '_PACKAGE', package)
    changes = {'test_evaluator.0.type': 'OwnMean'}
    interrupt(tmp_path, **changes)
    path = own if edited == 'metric' else package / 'fusion.py'
    path.write_text(path.read_text() + '\n')
    run(tmp_path, **changes)
    assert len(Echo.seen) == NUM_ITEMS


def test_items_are_named_without_their_frames(tmp_path, monkeypatch):
    read = Numbers.get_data_info
    loaded = []

    def count(self, index):
        loaded.append(index)
        return read(self, index)

    monkeypatch.setattr(Numbers, 'get_data_info', count)
    interrupt(tmp_path, at='set/v0', batch_size=1)
    assert len(loaded) < NUM_ITEMS


def test_notes_that_do_not_fit(tmp_path):
    Mean.note = staticmethod(np.float32)
    interrupt(tmp_path)
    (log,) = tmp_path.glob('*/*.log')
    assert 'starts anew' in log.read_text()
    run(tmp_path)
    assert len(Echo.seen) == NUM_ITEMS


def test_items_of_one_name(tmp_path):
    changes = {'test_dataloader.dataset.same_names': True}
    interrupt(tmp_path, at='set/v0', **changes)
    assert not (tmp_path / 'test_progress').exists()


@fault(
    PROCESSES,
    'a test is killed while it writes its notes',
    'the line is passed over and its item predicted again',
)
def test_a_line_cut_off(tmp_path):
    journal = Journal(tmp_path / 'notes', 'x')
    journal.append(Finished(['a'], [[1 / 3]]))
    journal.append(Finished(['b'], [[2]]))
    journal.close()
    (path,) = (tmp_path / 'notes').glob('*.jsonl')
    path.write_text(path.read_text()[:-3])
    again = Journal(tmp_path / 'notes', 'x')
    assert again.read() == [(['a'], [[1 / 3]])]
    again.append(Finished(['c'], []))
    again.close()
    assert [e.items for e in Journal(tmp_path / 'notes', 'x').read()] == [
        ['a'],
        ['c'],
    ]
    assert Journal(tmp_path / 'notes', 'y').read() == []


def test_the_notes_are_json(tmp_path):
    interrupt(tmp_path)
    (path,) = (tmp_path / 'test_progress').glob('*.jsonl')
    items, results = json.loads(path.read_text().splitlines()[0])
    assert [json.loads(name) for name in items] == [
        ['set/v0', '0'],
        ['set/v1', '0'],
    ]
    assert results == [[[['set/v0', 0.0], ['set/v1', 1 / 7]]]]
