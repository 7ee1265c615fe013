# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Typed errors: what they carry, how they travel and are collected."""

import pickle
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from referformer import errors
from referformer.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    MissingDataError,
    ReferError,
    collect_errors,
    report_error,
)

TYPES = [getattr(errors, n) for n in errors.__all__ if n.endswith('Error')]
FIELDS = dict(
    file=Path('a/b.json'), value=[1, 'x'], remedy='draw it again', code='c'
)


class Faulty(torch.utils.data.Dataset):
    """Raises in the process that reads it."""

    def __init__(self, kind, wrapped=False):
        self.kind, self.wrapped = kind, wrapped

    def __len__(self):
        return 1

    def __getitem__(self, index):
        try:
            raise self.kind('the mask is "empty".\nReally.', **FIELDS)
        except ReferError as error:
            if not self.wrapped:
                raise
            raise DataError(f'item {index}: {error}', file='c') from error


def raised_in_worker(dataset):
    with pytest.raises(ReferError) as caught:
        next(iter(DataLoader(dataset, num_workers=1)))
    return caught.value


@pytest.mark.parametrize('kind', TYPES)
def test_fields_and_text(kind):
    error = kind('a/b.json is empty.', **FIELDS)
    assert str(error) == 'a/b.json is empty; draw it again'
    assert (error.file, error.value) == ('a/b.json', [1, 'x'])
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert vars(again) == vars(error)
    assert str(kind('text')) == 'text'


@pytest.mark.parametrize(
    ('kind', 'built_in'),
    [
        (ConfigError, ValueError),
        (CheckpointError, RuntimeError),
        (MissingDataError, FileNotFoundError),
        (MissingDataError, DataError),
    ],
)
def test_they_are_what_they_replace(kind, built_in):
    assert issubclass(kind, built_in)


@pytest.mark.parametrize('kind', [DataError, MissingDataError])
def test_a_worker_of_a_data_loader(kind):
    error = raised_in_worker(Faulty(kind))
    assert type(error) is kind
    assert error.message == 'the mask is "empty".\nReally.'
    assert (error.file, error.value) == ('a/b.json', [1, 'x'])
    assert (error.remedy, error.code) == ('draw it again', 'c')
    assert str(error) == 'the mask is "empty".\nReally; draw it again'
    assert error.args == (error.message,)
    assert 'in __getitem__' in error.worker_traceback
    assert '\x1e' not in error.worker_traceback


def test_a_worker_that_quotes_an_error():
    error = raised_in_worker(Faulty(MissingDataError, wrapped=True))
    assert type(error) is DataError
    assert str(error).startswith('item 0: the mask')
    assert '\x1e' not in str(error)
    assert (error.file, error.value) == ('c', None)
    assert 'MissingDataError' in error.worker_traceback


class Noting(torch.utils.data.Dataset):
    """Puts the text of an error into its item."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return str(DataError('a', **FIELDS))


class Failing(Noting):
    """Fails while it handles an error of ours."""

    def __getitem__(self, index):
        try:
            raise DataError('a', **FIELDS)
        except DataError:
            len(5)


def test_only_what_is_sent_carries_the_fields():
    assert next(iter(DataLoader(Noting(), num_workers=1))) == [
        'a; draw it again'
    ]
    with pytest.raises(TypeError) as caught:
        next(iter(DataLoader(Failing(), num_workers=1)))
    assert 'DataError: a; draw it again\n' in str(caught.value)


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
