# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Steps of a longer run, each a command of this repository.

A finished step is not repeated; a command ends with the process that runs it.
"""

import json
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from referformer.errors import ConfigError, ReferError
from referformer.formats.files import write_json
from referformer.utils.processes import child_environment

# What mmengine logs: ``Epoch(train) [1][ 50/100]``, ``Epoch(test) [50/150]``.
_ITER = re.compile(
    r'Epoch\((train|test)\)\s*(?:\[\s*(\d+)\])?\[\s*(\d+)/\s*(\d+)\]'
)
_ETA = re.compile(r'eta: ([\d:, days]+?)\s{2}')
_LOSS = re.compile(r'\sloss: (\S+)')


class Steps:
    """Runs the steps, shows their progress and remembers them.

    Args:
        root: Top of the repository, where the commands run.
        work_dir: Where logs and the record of the steps go.
        total: Number of steps.
    """

    def __init__(self, root: Path, work_dir: Path, total: int) -> None:
        self.root = root
        self.work_dir = work_dir
        self.total = total
        self.number = 0
        self.path = work_dir / 'steps.json'
        self.record: dict[str, dict[str, Any]] = {}
        if self.path.exists():
            self.record = json.loads(self.path.read_text())

    @property
    def seconds(self) -> dict[str, float]:
        """Time of each step, interrupted attempts included."""
        return {
            name: round(step['seconds'], 1)
            for name, step in self.record.items()
        }

    def run(
        self, name: str, title: str, *command: str | Path, output: Path
    ) -> None:
        """Run a command unless it already succeeded.

        Args:
            name: Key of the step.
            title: What the user reads.
            *command: Arguments for this Python.
            output: What the command makes; were it deleted, the step runs
                again.

        Raises:
            ConfigError: If an earlier run had other options.
            ReferError: If the command fails; the message names its log.
        """
        self.number += 1
        head = f'[{self.number}/{self.total}] {title}'
        command = list(map(str, command))
        step = self.record.setdefault(
            name, {'command': command, 'seconds': 0.0, 'done': False}
        )
        step['title'] = title
        if step['command'] != command:
            raise ConfigError(
                f'{self.work_dir} holds a run with other options, in which '
                f'this step was\n  {shlex.join(step["command"])}\n'
                'Start over with --fresh, or choose another --work-dir and '
                '--data-root.'
            )
        if step['done'] and output.exists():
            print(f'{head}: done before', flush=True)
            return
        print(f'{head}\n      python {shlex.join(command)}', flush=True)
        step['done'] = False
        self._save()
        log = self.work_dir / f'{name}.log'
        start = time.time()
        try:
            status = self._call(command, log)
        finally:
            step['seconds'] += time.time() - start
            self._save()
        if status:
            tail = ''.join(log.read_text().splitlines(keepends=True)[-15:])
            raise ReferError(
                f'{tail}\n{title} failed with status {status}; the whole log '
                f'is {log}',
                file=log,
            )
        step['done'] = True
        self._save()
        print(f'      {step["seconds"]:.0f} s', flush=True)

    def _save(self) -> None:
        write_json(self.path, self.record)

    def _call(self, command: list[str], log: Path) -> int:
        """Run a command to its end; it does not outlive this process."""
        with (
            log.open('a', encoding='utf-8') as file,
            subprocess.Popen(
                [sys.executable, *command],
                cwd=self.root,
                env=child_environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding='utf-8',
                errors='replace',
            ) as process,
        ):
            try:
                for line in process.stdout:
                    file.write(line)
                    file.flush()
                    progress = progress_of(line)
                    if progress:
                        print(f'      {progress}', flush=True)
            except BaseException:
                process.terminate()
                raise
        return process.returncode


def progress_of(line: str) -> str | None:
    """Shorten a line of mmengine's log."""
    match = _ITER.search(line)
    if match is None:
        return None
    mode, epoch, step, steps = match.groups()
    eta, loss = _ETA.search(line), _LOSS.search(line)
    text = f'clip {step}/{steps}'
    if mode == 'train':
        text = f'epoch {epoch}  step {step}/{steps}'
    if loss:
        text += f'  loss {loss.group(1)}'
    if eta:
        text += f'  time left {eta.group(1).strip()}'
    return text
