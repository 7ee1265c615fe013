# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Steps of a benchmark and what they take, here or in another checkout.

Another checkout is measured by this file too, run as a script by a process of
its own. So it imports, when it is asked for a step, only what every checkout
since 47752c0 has under the same name.

All clocks are read after the device has caught up. The time of a stage is its
own: while a stage inside another one runs, the outer clock stands still.
"""

import importlib.util
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

STAGES = (
    'data_preprocessor',
    'backbone',
    'neck',
    'text_encoder',
    'fusion',
    'transformer.encoder',
    'transformer.decoder',
    'pixel_decoder',
    'head.mask_head',
    'head.criterion',
)
MIB = 2**20
_STATUS = Path('/proc/self/status')
_CLEAR_REFS = Path('/proc/self/clear_refs')


class StepCost(NamedTuple):
    """One run of a step.

    Attributes:
        seconds (float): From start to end.
        stages (dict[str, float]): Seconds of each stage, without those of the
            stages inside it; ``other`` is what belongs to none.
        peak_mib (float): Most memory in use during the step: the
            allocator's on CUDA, the process's resident set elsewhere (NaN
            where the system does not report it).
        extra_mib (float): How much of it was not in use before.
    """

    seconds: float
    stages: dict[str, float]
    peak_mib: float
    extra_mib: float


class StepMeter:
    """Measure steps of a model.

    Args:
        stages (Mapping[str, nn.Module]): Modules whose ``forward`` is a
            stage, by the stage's name.
        device (torch.device): Where the work is done.
    """

    def __init__(
        self, stages: Mapping[str, nn.Module], device: torch.device
    ) -> None:
        self.device = torch.device(device)
        self._stages = dict(stages)
        self._running: list[str] = []
        self._seconds: dict[str, float] = defaultdict(float)
        self._since = 0.0

    def _switch(self) -> None:
        """Add the elapsed time to the running stage."""
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        if self._running:
            self._seconds[self._running[-1]] += now - self._since
        self._since = now

    def _enter(self, name: str) -> None:
        self._switch()
        self._running.append(name)

    def _leave(self, *_: object) -> None:
        self._switch()
        self._running.pop()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what happens inside as the stage ``name``."""
        self._enter(name)
        try:
            yield
        finally:
            self._leave()

    def measure(self, step: Callable[[], object]) -> StepCost:
        """Run a step once; it may use :meth:`stage`."""
        handles = []
        for name, module in self._stages.items():
            handles += [
                module.register_forward_pre_hook(
                    lambda *_, name=name: self._enter(name)
                ),
                module.register_forward_hook(self._leave),
            ]
        before = self._reset_memory()
        self._seconds.clear()
        self._running.clear()
        try:
            with self.stage('other'):
                step()
        finally:
            for handle in handles:
                handle.remove()
        stages = dict(self._seconds)
        peak = self._peak_memory()
        return StepCost(sum(stages.values()), stages, peak, peak - before)

    def _reset_memory(self) -> float:
        """Forget earlier peaks; return what is in use now, in MiB."""
        if self.device.type == 'cuda':
            torch.cuda.reset_peak_memory_stats(self.device)
            return torch.cuda.memory_allocated(self.device) / MIB
        with suppress(OSError):
            _CLEAR_REFS.write_text('5')
        return _status_mib('VmRSS')

    def _peak_memory(self) -> float:
        if self.device.type == 'cuda':
            return torch.cuda.max_memory_allocated(self.device) / MIB
        return _status_mib('VmHWM')


def _status_mib(key: str) -> float:
    """Read a size out of ``/proc/self/status``; NaN where there is none."""
    with suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith(f'{key}:'):
                return int(line.split()[1]) / 1024
    return float('nan')


class Setting(NamedTuple):
    """What is measured.

    Attributes:
        frames (int): Frames T of a clip.
        height (int): Of a frame, in pixels.
        width (int): Likewise.
        batch (int): Clips at a time.
        expressions (int): Expressions of each clip (prediction only).
        precision (str): 'fp32', 'bf16' or 'fp16'.
        compile (bool): Whether to compile the model.
        options (tuple): Overrides of the config, (key, value) pairs.
    """

    frames: int
    height: int
    width: int
    batch: int
    expressions: int
    precision: str
    compile: bool
    options: tuple[tuple[str, Any], ...] = ()


def model_step(
    config: str, setting: Setting, device_name: str, training: bool
) -> Callable[[], StepCost]:
    """Build a model with random weights; return what measures a step of it.

    Args:
        config (str): Config file.
        setting (Setting): What to measure.
        device_name (str): Where.
        training (bool): A training step or a prediction.
    """
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    from referformer.registry import MODELS
    from referformer.testing import (
        DEMO_TEXTS,
        demo_refer_inputs,
        offline_model_cfg,
    )

    cfg = Config.fromfile(config)
    cfg.merge_from_dict(dict(setting.options))
    init_default_scope(cfg.get('default_scope', 'referformer'))
    device = torch.device(device_name)
    torch.manual_seed(0)
    model = MODELS.build(offline_model_cfg(cfg.model)).to(device)
    model.train(training)
    dtype = {'bf16': torch.bfloat16, 'fp16': torch.float16}.get(
        setting.precision
    )
    data = demo_refer_inputs(
        batch_size=setting.batch,
        num_frames=setting.frames,
        size=(setting.height, setting.width),
    )
    modules = dict(model.named_modules())
    stages = {
        path.split('.')[-1]: modules[path]
        for path in STAGES
        if path in modules
    }
    predictor = getattr(model, 'predictor', None)
    if getattr(predictor, 'cuda_graphs', False):
        stages = {}  # what is replayed has none, and hooks would prevent it
    meter = StepMeter(stages, device)
    if training:
        step = _training_step(cfg.optim_wrapper, model, data, meter, dtype)
    else:
        if setting.expressions > 1:
            expressions = [
                dict(
                    text=DEMO_TEXTS[e % len(DEMO_TEXTS)],
                    exp_id=str(e),
                    obj_id='1',
                    label=0,
                )
                for e in range(setting.expressions)
            ]
            for sample in data['data_samples']:
                sample.set_metainfo(dict(expressions=expressions))

        def step() -> None:
            with (
                torch.inference_mode(),
                torch.autocast(device.type, dtype, enabled=dtype is not None),
            ):
                model.test_step(data)

    if setting.compile:
        model.compile()
    return lambda: meter.measure(step)


def _training_step(
    optim_cfg: Any,
    model: nn.Module,
    data: dict,
    meter: StepMeter,
    dtype: torch.dtype | None,
) -> Callable[[], None]:
    """Return what runs forward, backward and the optimizer once."""
    from mmengine.optim import build_optim_wrapper

    if dtype == torch.float16:  # scales the loss, which bf16 does not need
        optim_cfg.type = 'AmpOptimWrapper'
        optim_cfg.dtype = 'float16'
    optim = build_optim_wrapper(model, optim_cfg)
    device = next(model.parameters()).device.type

    def step() -> None:
        with (
            optim.optim_context(model),
            torch.autocast(device, dtype, enabled=dtype is not None),
        ):
            batch = model.data_preprocessor(data, True)
            losses = model(**batch, mode='loss')
        loss, _ = model.parse_losses(losses)
        with meter.stage('backward'):
            optim.backward(loss)
        with meter.stage('optimizer'):
            optim.step()
            optim.zero_grad()

    return step


def _use_checkout(root: Path) -> None:
    """Let ``import referformer`` find the package of a checkout."""
    # Python puts the folder of a script first
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from referformer.utils.mmcv_extension import has_compiled_operators

    if not has_compiled_operators():
        # Earlier versions ask for mmcv by the name of the compiled one; on
        # CPUs they need no more than the imports that this package provides.
        installed = metadata.version
        names = {'mmcv': 'mmcv-lite', 'mmcv-lite': 'mmcv'}
        metadata.version = lambda name: installed(names.get(name, name))
    for module in [m for m in sys.modules if m.split('.')[0] == 'referformer']:
        del sys.modules[module]
    os.chdir(root)
    sys.path[0] = str(root)
    package = importlib.util.find_spec('referformer')
    if not Path(package.origin or '').is_relative_to(root):
        raise SystemExit(f'{root} holds no package referformer.')


def _serve(root: str, arguments: str) -> None:
    """Measure a step of another checkout whenever a line comes in."""
    # what libraries print must not end up between the answers
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)
    _use_checkout(Path(root))
    config, setting, *rest = json.loads(arguments)
    step = model_step(config, Setting(*setting), *rest)
    print('ready', file=answers, flush=True)
    for _ in sys.stdin:
        print(json.dumps(step()), file=answers, flush=True)


if __name__ == '__main__':
    _serve(*sys.argv[1:])
