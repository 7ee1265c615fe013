# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""torchrun, quiet about itself: a process that failed has said why.

Takes the options of torchrun. The shell scripts of this folder start it.

SIGTERM and SIGUSR1 are handed to the processes, which save and leave; their
status is that of this command. torchrun itself sends SIGTERM to the workers
of the data loaders too, which end a training before it has saved, and does
not know SIGUSR1.
"""

import os
import signal
import sys
from types import FrameType

from torch.distributed.elastic.multiprocessing import api
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

from referformer.utils.processes import (
    INTERRUPTED,
    children_of_this_process,
    heed_interruptions,
    wait_for,
)

#: Seconds for the end of an iteration and a checkpoint, and from the end of
#: the first process to that of the last.
SAVING, LEAVING = 300.0, 30.0
_torchruns_answer = api._terminate_process_handler


def hand_over(number: int, frame: FrameType | None) -> None:
    """Hand a signal to the processes, and leave when they have left.

    Raises:
        SystemExit: With the status of the processes.
    """
    if number not in (signal.SIGTERM, signal.SIGUSR1):
        _torchruns_answer(number, frame)
    processes = children_of_this_process()
    for process in processes:
        os.kill(process, number)
    ended = set(wait_for(processes, SAVING, LEAVING).values())
    # a process that ended by the signal had nothing to save yet
    if not ended or ended & {INTERRUPTED, -number}:
        raise SystemExit(INTERRUPTED)
    raise SystemExit(max(map(abs, ended)))


if __name__ == '__main__':
    heed_interruptions()
    # torchrun installs its handlers when it starts the processes
    api._terminate_process_handler = hand_over
    signal.signal(signal.SIGUSR1, hand_over)
    # A torchrun that stays announces its store once only, and one that has
    # been replaced would wait for it in vain.
    os.environ.setdefault('TORCH_DISABLE_SHARE_RDZV_TCP_STORE', '1')
    try:
        main()
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        # a signal's number is negative
        sys.exit(failure.exitcode if failure.exitcode > 0 else 1)
