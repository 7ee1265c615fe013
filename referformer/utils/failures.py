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
    except ReferError:
        raise
    except Exception as error:
        # PyTorch reports a dead worker wherever the program happens to be,
        # so other code may have turned its error into one of its own
        chain: list[BaseException] = [error]
        while follows := chain[-1].__cause__ or chain[-1].__context__:
            chain.append(follows)
        for part in reversed(chain):
            found = _of_a_worker(part) or _of_another_process(part)
            if found is not None:
                raise found from error
        raise


def _of_a_worker(error: BaseException) -> ReferError | None:
    """A worker of a data loader that ended, or that gives nothing."""
    text = str(error)
    silent = re.search(r'DataLoader timed out after (\S+) seconds', text)
    if silent:
        name = 'a worker of a data loader'
        loader = _loader_in(error)
        if loader is not None:
            number = loader._task_info[loader._rcvd_idx][0]
            pid = loader._workers[number].pid
            name = f'worker {number} of a data loader (pid {pid})'
        return ReferError(
            f'{name} has given no batch for {silent[1]} seconds',
            remedy='look at the disk or network that it reads from; '
            'data_timeout in the config is how long to wait.',
        )
    ended = re.search(r'DataLoader worker \(pid(?:\(s\))? (\d+)', text)
    if not ended:
        return None
    name = re.search(r'killed by signal: ([\w ]+)', text)
    number = _SIGNALS.get(name[1].strip()) if name else None
    loader = _loader_in(error)
    if number is None and loader is not None:
        # found dead when a batch was asked for
        numbers = {str(w.pid): -(w.exitcode or 0) for w in loader._workers}
        number = numbers.get(ended[1])
    how, why, remedy = 'ended', '', 'set num_workers=0 to see the reason.'
    if number in list(signal.Signals):
        how = f'was killed by {signal.Signals(number).name}'
        why, remedy = _REASONS.get(number, ('', 'look who sent the signal.'))
    return ReferError(
        f'a worker of a data loader (pid {ended[1]}) {how}'
        f'{f", {why}" if why else ""}',
        value=int(ended[1]),
        remedy=remedy,
    )


def _loader_in(
    error: BaseException,
) -> _MultiProcessingDataLoaderIter | None:
    """The data loader in which an error was raised."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        found = frame.f_locals.get('self')
        if isinstance(found, _MultiProcessingDataLoaderIter):
            return found
    return None


def _of_another_process(error: BaseException) -> ReferError | None:
    """Another process of the run that is gone."""
    if not isinstance(error, RuntimeError):
        return None
    if not isinstance(error, distributed.DistError) and not re.search(
        r'gloo[/\\]|Connection (closed|reset) by peer', str(error)
    ):
        return None
    # without the place in the source, and advice
    reason = re.sub(r'^\[\S*\] |\. This is.*', '', str(error).split('\n')[0])
    return ReferError(
        'the connection to the other processes of this run is lost '
        f'({reason})',
        remedy='see what the others have written: the one that failed first '
        'says why.',
    )
