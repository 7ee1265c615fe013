# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""What ended a run from outside: a loader's worker, or another process."""

import re
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from torch import distributed
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from referformer.errors import ReferError

__all__ = ['explain_failures']

_SIGNALS = {signal.strsignal(number): number for number in signal.Signals}
#: What a worker most likely died of, and what helps.
_REASONS = {
    signal.SIGKILL: (
        'most likely for want of memory; the log of the kernel (dmesg) '
        'says so then',
        'lower num_workers or batch_size of the data loader.',
    ),
    signal.SIGBUS: (
        'most likely as the shared memory (/dev/shm) is full',
        'enlarge it (docker run --shm-size=8g) or lower num_workers.',
    ),
    signal.SIGSEGV: (
        'by a fault in compiled code, such as a decoder',
        'set num_workers=0 to see at which sample.',
    ),
}


@contextmanager
def explain_failures() -> Iterator[None]:
    """Name the worker or the process whose end or silence ended this one.

    Raises:
        ReferError: In the place of an error of PyTorch.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, ReferError):
            raise
        found = _of_a_worker(error) or _of_another_process(error)
        if found is None:
            raise
        raise found from error


def _of_a_worker(error: RuntimeError) -> ReferError | None:
    """A worker of a data loader that ended, or that gives nothing."""
    text = f'{error} {error.__cause__}'
    silent = re.search(r'DataLoader timed out after (\S+) seconds', text)
    if silent:
        return ReferError(
            f'{_awaited_worker(error)} has given no batch for '
            f'{silent[1]} seconds',
            remedy='look at the disk or network that it reads from; '
            'data_timeout in the config is how long to wait.',
        )
    ended = re.search(r'DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)', text)
    if not ended:
        return None
    how, why, remedy = 'ended', '', 'set num_workers=0 to see the reason.'
    name = re.search(r'killed by signal: ([\w ]+)', text)
    if name:
        number = _SIGNALS.get(name[1].strip())
        how = f'was killed by {number.name if number else name[1].strip()}'
        why, remedy = _REASONS.get(number, ('', 'look who sent the signal.'))
    return ReferError(
        f'a worker of a data loader (pid {ended[1]}) {how}'
        f'{f", {why}" if why else ""}',
        value=ended[1],
        remedy=remedy,
    )


def _awaited_worker(error: RuntimeError) -> str:
    """Name the worker from which the next batch should have come."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        loader = frame.f_locals.get('self')
        if isinstance(loader, _MultiProcessingDataLoaderIter):
            number = loader._task_info[loader._rcvd_idx][0]
            pid = loader._workers[number].pid
            return f'worker {number} of a data loader (pid {pid})'
    return 'a worker of a data loader'


def _of_another_process(error: RuntimeError) -> ReferError | None:
    """Another process of the run that is gone."""
    if not isinstance(error, distributed.DistError) and not re.search(
        r'gloo[/\\]|Connection (closed|reset) by peer', str(error)
    ):
        return None
    return ReferError(
        'the connection to the other processes of this run is lost '
        f'({str(error).splitlines()[0]})',
        remedy='see what the others have written: the one that failed first '
        'says why.',
    )
