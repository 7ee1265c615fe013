# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Typed errors: what they carry, and how they are collected."""

import pickle

import pytest

from referformer.errors import DataError, collect_errors, report_error


def test_all_fields_survive_a_worker_process():
    error = DataError('a is b.', file='a', value=1, remedy='do c', code='d')
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is DataError
    assert str(again) == str(error) == 'a is b; do c'
    assert vars(again) == vars(error)


def test_reported_errors_are_raised_unless_collected():
    with pytest.raises(DataError, match='first'):
        report_error(DataError('first'))
    with collect_errors() as outer:
        report_error(DataError('second'))
        with collect_errors() as inner:
            report_error(DataError('third'))
        report_error(DataError('fourth'))
    assert [str(e) for e in outer] == ['second', 'fourth']
    assert [str(e) for e in inner] == ['third']
    with pytest.raises(DataError, match='fifth'):
        report_error(DataError('fifth'))
