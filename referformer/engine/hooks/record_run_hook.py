# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Hook that records how a run was started."""

from pathlib import Path
from typing import Any

from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from referformer.formats.files import write_json
from referformer.formats.run_logs import RECORD
from referformer.registry import HOOKS
from referformer.utils.provenance import describe_process

# Key of the records in the ``meta`` of a checkpoint.
_META_KEY = 'runs'


@HOOKS.register_module()
class RecordRunHook(Hook):
    """Record the command line, versions, commit and changed files of a run.

    They are written to ``<work dir>/<time>/run.json``, where mmengine writes
    the config, and into the ``meta`` of every checkpoint, in a list with
    those of the runs that its weights come from.
    """

    def __init__(self) -> None:
        self._record: dict[str, Any] = {}
        self._earlier: list[dict[str, Any]] = []

    def before_run(self, runner: Runner) -> None:
        """Write the record of this process."""
        if not is_main_process():
            return
        self._record = {
            **describe_process(),
            'processes': get_world_size(),
            'seed': runner.seed,
        }
        write_json(Path(runner.log_dir, RECORD), self._record)

    def after_load_checkpoint(
        self, runner: Runner, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the records of the runs that the weights come from."""
        self._earlier = list(checkpoint.get('meta', {}).get(_META_KEY, ()))

    def before_save_checkpoint(
        self, runner: Runner, checkpoint: dict[str, Any]
    ) -> None:
        """Put the records into the checkpoint."""
        checkpoint['meta'][_META_KEY] = [*self._earlier, self._record]
