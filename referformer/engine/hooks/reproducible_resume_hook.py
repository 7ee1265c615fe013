# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Hook by which a resumed training repeats the uninterrupted one."""

from typing import Any

from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from referformer.registry import HOOKS
from referformer.utils.seeding import (
    MODEL_STREAM,
    derive_seed,
    seed_generators,
)

# Key of this hook's record in the ``meta`` of a checkpoint.
_META_KEY = 'data_order'


@HOOKS.register_module()
class ReproducibleResumeHook(Hook):
    """Seed every iteration by its number.

    mmengine restores weights, optimizer and schedules, but no random state:
    after resuming, dropout draws what it drew in the first iteration of the
    run. Here the random numbers of an iteration depend on the run's seed,
    the rank and the number of the iteration alone. Nothing has to be stored,
    and every rank is covered. ``SeededSampler`` does the same for the data.

    The hook also writes into each checkpoint what fixes the order of the
    data, and warns when a run resumes with something else.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}

    def before_save_checkpoint(
        self, runner: Runner, checkpoint: dict[str, Any]
    ) -> None:
        """Record what the order of the data depends on."""
        checkpoint['meta'][_META_KEY] = self._data_order(runner)

    def after_load_checkpoint(
        self, runner: Runner, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the record of the run, and fit the schedules to this one."""
        self._loaded = checkpoint.get('meta', {}).get(_META_KEY, {})
        layout = getattr(runner.optim_wrapper, 'state_layout', None)
        schedulers = checkpoint.get('param_schedulers')
        if layout and isinstance(schedulers, list):
            # the optimizer adapts its own state
            checkpoint['param_schedulers'] = list(
                map(layout.fit_scheduler, schedulers)
            )

    def before_train(self, runner: Runner) -> None:
        """Warn when the resumed run cannot repeat the interrupted one."""
        if runner.iter == 0:
            return
        current = self._data_order(runner)
        changed = [
            f'{name} was {self._loaded[name]} and is {value}'
            for name, value in current.items()
            if self._loaded.get(name, value) != value
        ]
        if changed:
            runner.train_loop.whole_epochs = True  # see ResumableTrainLoop
            runner.logger.warning(
                'The resumed training will not repeat the interrupted one, '
                f'because {", ".join(changed)}.'
            )

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Seed the generators the model draws from."""
        seed_generators(
            derive_seed(MODEL_STREAM, runner.seed, get_rank(), runner.iter)
        )

    @staticmethod
    def _data_order(runner: Runner) -> dict[str, Any]:
        """Return what decides which sample is seen when."""
        loader = runner.train_dataloader
        sampler = loader.sampler
        return {
            'seed': getattr(sampler, 'seed', None),
            'world_size': get_world_size(),
            'batch_size': loader.batch_size,
            'num_samples': len(loader.dataset),
        }
