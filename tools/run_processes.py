# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""torchrun, quiet about itself: a process that failed has said why.

Takes the options of torchrun. The shell scripts of this folder start it.
"""

import sys

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

if __name__ == '__main__':
    try:
        main()
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        # a signal's number is negative
        sys.exit(failure.exitcode if failure.exitcode > 0 else 1)
