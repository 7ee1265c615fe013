# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Work in several processes."""

import pytest

from referformer.errors import DataError
from referformer.utils.parallel import run_tasks


def add(shared, task):
    """What a worker does with what it was sent once."""
    return shared['offset'] + task


def square(task):
    """What a worker does alone."""
    return task * task


def refuse(task):
    """Raise a typed error."""
    raise DataError('no', file=f'{task}.txt', code='data-wrong')


@pytest.mark.parametrize('jobs', [1, 2])
def test_results_come_with_their_positions(jobs):
    shared = {'offset': 10}
    assert dict(run_tasks(add, [1, 2, 3], jobs, shared)) == {
        0: 11,
        1: 12,
        2: 13,
    }
    assert dict(run_tasks(square, [1, 2, 3], jobs)) == {0: 1, 1: 4, 2: 9}


@pytest.mark.parametrize('jobs', [1, 2])
def test_types_of_errors_survive(jobs):
    with pytest.raises(DataError) as error:
        list(run_tasks(refuse, [5, 6], jobs))
    assert error.value.file in ('5.txt', '6.txt')
    assert error.value.code == 'data-wrong'
