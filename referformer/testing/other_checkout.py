# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Measure a step in another checkout, in a process of its own.

The two processes take turns, so that both meet the same disturbances of the
machine. They speak by lines of JSON.
"""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from referformer.errors import ConfigError
from referformer.utils.mmcv_extension import has_compiled_operators

ROOT = Path(__file__).resolve().parents[2]


class OtherCheckout:
    """A step of another checkout of this project.

    Args:
        root (Path): Top of the checkout.
        step (str): ``'model_step'`` or ``'scoring_step'``, see
            :mod:`referformer.testing.benchmark_step`.
        arguments (list): What the function takes, as JSON can hold it.

    Raises:
        ConfigError: If the checkout cannot run the step.
    """

    def __init__(self, root: Path, step: str, arguments: list) -> None:
        import torch

        self.root = root
        code = 'from referformer.testing import other_checkout as other; '
        code += 'other.serve()'
        self._process = subprocess.Popen(
            [sys.executable, '-c', code],
            cwd=ROOT,  # where `python -c` looks for packages first
            env=dict(os.environ, OMP_NUM_THREADS=str(torch.get_num_threads())),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._ask([str(root.resolve()), step, *arguments])

    def measure(self) -> Any:
        """Run the step once.

        Returns:
            StepCost: What it took.
        """
        from referformer.utils.benchmark import StepCost

        return StepCost(*self._ask('again'))

    def _ask(self, question: Any) -> Any:
        try:
            self._process.stdin.write(json.dumps(question) + '\n')
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ''
        if not answer:
            raise ConfigError(
                f'{self.root} cannot be measured; its error stands above.',
                file=self.root,
            )
        return json.loads(answer)

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait()


def serve() -> None:
    """Run in the process of the other checkout until the pipe is closed."""
    # what libraries print must not end up between the answers
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)
    root, name, *arguments = json.loads(sys.stdin.readline())
    step = _step_of(Path(root), name, arguments)
    print('true', file=answers, flush=True)
    for _ in sys.stdin:
        print(json.dumps(step()), file=answers, flush=True)


def _step_of(root: Path, name: str, arguments: list) -> Callable[[], Any]:
    """Make a step by the packages of a checkout and the code of this one."""
    path = Path(__file__).with_name('benchmark_step.py')
    if not has_compiled_operators():
        # Earlier versions ask for mmcv by the name of the compiled one; on
        # CPUs they need no more than the imports that this package provides.
        installed = metadata.version

        def version(distribution: str) -> str:
            names = {'mmcv': 'mmcv-lite', 'mmcv-lite': 'mmcv'}
            return installed(names.get(distribution, distribution))

        metadata.version = version
    for module in [m for m in sys.modules if m.split('.')[0] == 'referformer']:
        del sys.modules[module]
    os.chdir(root)
    sys.path[:] = [
        str(root),
        *(p for p in sys.path if p not in ('', str(ROOT))),
    ]
    package = importlib.util.find_spec('referformer')
    if not Path(package.origin or '').is_relative_to(root):
        raise SystemExit(f'{root} holds no package referformer.')
    spec = importlib.util.spec_from_file_location('benchmark_step', path)
    code = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(code)
    if name == 'model_step':
        config, setting, *rest = arguments
        setting[-1] = [tuple(option) for option in setting[-1]]
        arguments = [config, code.Setting(*setting), *rest]
    return getattr(code, name)(*arguments)
