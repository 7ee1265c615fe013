# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Errors of PyTorch about workers and other processes, in words."""

import pytest
from torch import distributed

from referformer.errors import ConfigError, ReferError
from referformer.utils.failures import explain_failures


def explained(error):
    with pytest.raises(ReferError) as caught, explain_failures():
        raise error
    assert caught.value.__cause__ is error
    return str(caught.value)


def wrapped(error):
    """The error that code in the middle of something makes of it."""
    try:
        try:
            raise error
        except RuntimeError:
            raise SyntaxError('cannot be formatted')  # noqa: B904
    except SyntaxError as other:
        return other


@pytest.mark.parametrize(
    ('text', 'sentence'),
    [
        (
            'DataLoader worker (pid 12) is killed by signal: Killed. ',
            '(pid 12) was killed by SIGKILL, most likely for want of memory',
        ),
        (
            'DataLoader worker (pid 12) is killed by signal: Bus error. It is '
            'possible that ...',
            '(pid 12) was killed by SIGBUS, most likely as the shared memory',
        ),
        (
            'DataLoader worker (pid 12) is killed by signal: Hangup. ',
            '(pid 12) was killed by SIGHUP; look who sent the signal.',
        ),
        (
            'DataLoader worker (pid 12) exited unexpectedly with exit code 1.',
            '(pid 12) ended; set num_workers=0 to see the reason.',
        ),
        (
            'DataLoader worker (pid(s) 12, 13) exited unexpectedly',
            '(pid 12) ended; set num_workers=0 to see the reason.',
        ),
        (
            'DataLoader timed out after 2 seconds',
            'a worker of a data loader has given no batch for 2 seconds',
        ),
        (
            '[/__w/gloo/transport/tcp/pair.cc:553] Connection closed by peer '
            '[127.0.0.1]:44. This is typically caused by a remote worker.',
            'of this run is lost (Connection closed by peer [127.0.0.1]:44); '
            'see what the others have written',
        ),
    ],
)
def test_what_pytorch_says(text, sentence):
    assert sentence in explained(RuntimeError(text))
    assert sentence in explained(wrapped(RuntimeError(text)))


def test_nccl():
    text = explained(distributed.DistBackendError('NCCL error: unhandled'))
    assert 'of this run is lost (NCCL error: unhandled)' in text


@pytest.mark.parametrize(
    'error', [RuntimeError('shapes'), ConfigError('a'), KeyboardInterrupt()]
)
def test_other_errors_stay(error):
    with pytest.raises(type(error)) as caught, explain_failures():
        raise error
    assert caught.value is error
