# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import mmap

import pytest
from torch import nn

from referformer.testing import benchmark_step
from referformer.testing.benchmark import interleave, spread, summarise
from referformer.testing.benchmark_step import MIB, StepCost, StepMeter


class Clock:
    """A clock that only goes on when told to."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(benchmark_step.time, 'perf_counter', clock)
    return clock


class Takes(nn.Module):
    def __init__(self, clock, before, inner=None, after=0.0):
        super().__init__()
        self.clock, self.before, self.after = clock, before, after
        self.inner = inner

    def forward(self):
        self.clock.now += self.before
        if self.inner is not None:
            self.inner()
        self.clock.now += self.after


def test_a_stage_does_not_count_those_inside(clock):
    inner = Takes(clock, 5)
    outer = Takes(clock, 1, inner, 2)
    meter = StepMeter({'outer': outer, 'inner': inner}, 'cpu')

    def step():
        clock.now += 0.5
        outer()
        with meter.stage('by hand'):
            clock.now += 0.25
            inner()

    cost = meter.measure(step)
    assert cost.stages == {
        'other': 0.5,
        'outer': 3,
        'inner': 10,
        'by hand': 0.25,
    }
    assert cost.seconds == 13.75
    # hooks are gone, and a second run does not add to the first
    inner()
    assert meter.measure(step).stages == cost.stages


def test_a_step_that_fails_leaves_no_hooks(clock):
    module = Takes(clock, 1)
    meter = StepMeter({'module': module}, 'cpu')
    with pytest.raises(ZeroDivisionError):
        meter.measure(lambda: 1 / 0)
    assert not module._forward_hooks
    assert not module._forward_pre_hooks
    assert meter.measure(module).stages == {'other': 0, 'module': 1}


def test_peak_memory():
    size = 200 * MIB

    def step():
        # from the system: the process keeps memory that torch has freed
        with mmap.mmap(-1, size) as memory:
            for start in range(0, size, mmap.PAGESIZE):
                memory[start] = 1

    cost = StepMeter({}, 'cpu').measure(step)
    small = StepMeter({}, 'cpu').measure(lambda: None)
    if cost.peak_mib != cost.peak_mib:
        pytest.skip('the system does not tell')
    assert 190 < cost.extra_mib < 260
    # the earlier peak is forgotten
    assert small.extra_mib < 20


def test_rounds_take_turns():
    order = []

    def step(name):
        def run():
            order.append(name)
            return StepCost(len(order), {}, 0, 0)

        return run

    costs = interleave([step('a'), step('b')], warmup=1, repeats=2)
    assert ''.join(order) == 'abbaab'
    assert [cost.seconds for cost in costs[0]] == [4, 5]
    assert [cost.seconds for cost in costs[1]] == [3, 6]


def test_summary():
    costs = [
        StepCost(3.0, {'a': 2.0, 'b': 1.0}, 10, 1),
        StepCost(5.0, {'a': 5.0}, 30, 3),
        StepCost(4.0, {'a': 3.0, 'b': 1.0}, 20, 2),
    ]
    found = summarise(costs)
    assert found['seconds'] == {'median': 4.0, 'min': 3.0, 'max': 5.0}
    assert found['stages'] == {
        'a': spread([2.0, 5.0, 3.0]),
        'b': spread([1.0, 0.0, 1.0]),
    }
    assert (found['peak_mib'], found['extra_mib']) == (30, 3)
