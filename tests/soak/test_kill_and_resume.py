# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The short form of the soak."""

import sys

import pytest
import torch

from tests.faults import PROCESSES, fault

from .kill_and_resume import differences, soak, toy_config


@fault(
    PROCESSES,
    '`kill -9` at a random moment, of all processes or of one',
    'none is left, and the resumed training ends with the same bits',
)
@pytest.mark.skipif(sys.platform != 'linux', reason='needs /proc')
def test_a_killed_training_ends_as_an_undisturbed_one(tmp_path):
    outcome = soak(tmp_path, cycles=3, make=toy_config, worlds=(2,), gone=60.0)
    assert outcome.kills.total() == 3
    assert outcome.runs >= 1


def test_one_bit_is_a_difference():
    state = {'a': [torch.zeros(2), 1], 'b': {'c': torch.ones(1)}}
    other = {'a': [torch.zeros(2), 1], 'b': {'c': torch.ones(1)}}
    assert not differences(state, other)
    other['b']['c'][0] += 1e-7
    assert differences(state, other) == ['.b.c']
    assert differences(state, {'a': 1}) == ['']
    assert differences([1, 2], [1, 3]) == ['.1']
