# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Hook that says which settings of a resumed run are in force."""

import json
import warnings
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple

from mmengine.hooks import Hook
from mmengine.runner import Runner

from referformer.engine.runner_state import is_resuming
from referformer.errors import CheckpointError
from referformer.registry import HOOKS

# Key of this hook's record in the ``meta`` of a checkpoint.
_META_KEY = 'settings'
# Parts of a config that decide what a training learns.
_PARTS = (
    *('model', 'train_dataloader', 'train_cfg', 'optim_wrapper'),
    *('param_scheduler', 'auto_scale_lr', 'custom_hooks'),
)
# Their settings that the state in a checkpoint replaces.
_OVERRULED = (
    *('optim_wrapper.optimizer', 'optim_wrapper.paramwise_cfg'),
    *('param_scheduler', 'auto_scale_lr'),
)
# Those that change nothing; ReproducibleResumeHook compares the batch size.
_SILENT = tuple(
    f'train_dataloader.{name}'
    for name in (
        *('batch_size', 'num_workers', 'persistent_workers', 'pin_memory'),
        *('prefetch_factor', 'timeout'),
    )
)


class Change(NamedTuple):
    """A setting that differs.

    Attributes:
        key: Its place in the config, dotted.
        old: The value of the checkpoint; None if there is none.
        new: The value of the config, likewise.
    """

    key: str
    old: Any
    new: Any


@HOOKS.register_module()
class ResumedSettingsHook(Hook):
    """Say what a resumed run takes from its config, and what it does not.

    The state of the optimizer holds the learning rate and the other settings
    of the optimizer, and the state of the schedules holds the schedules. Both
    replace what the config says. Every setting that differs from that of the
    interrupted run is named in one line of the log.

    Args:
        new_schedule (bool): Whether the settings of the optimizer and the
            schedules are those of the config, as if the run had had them
            from its beginning. Moments of the optimizer stay. Defaults to
            False.
    """

    priority = 'VERY_HIGH'

    def __init__(self, new_schedule: bool = False) -> None:
        self.new_schedule = new_schedule
        self._changes: list[Change] = []
        #: Settings of each parameter group of the config's optimizer.
        self._groups: list[dict[str, Any]] | None = None

    def before_save_checkpoint(
        self, runner: Runner, checkpoint: dict[str, Any]
    ) -> None:
        """Record the settings, as text, which is safe to load."""
        checkpoint['meta'][_META_KEY] = json.dumps(_settings(runner))

    def after_load_checkpoint(
        self, runner: Runner, checkpoint: dict[str, Any]
    ) -> None:
        """Compare the settings; keep those that the state would replace.

        Raises:
            CheckpointError: If the state is that of another optimizer, or of
                other schedules and the new ones are not asked for.
        """
        if not is_resuming(runner):
            return
        old = json.loads(checkpoint['meta'].get(_META_KEY, 'null'))
        self._changes = []
        if old is not None:
            new = _settings(runner)
            self._changes = [*compare_settings(old, new)]
            was, now = _optimizer(old), _optimizer(new)
            if was != now:
                raise CheckpointError(
                    f'the checkpoint holds the state of {was}, and the '
                    f'optimizer of the config is {now}',
                    value=now,
                    remedy='keep the optimizer, or begin a new run from the '
                    'weights, with load_from and without --resume.',
                )
        self._check_schedules(runner, checkpoint, old)
        if self.new_schedule:
            checkpoint.pop('param_schedulers', None)
            self._groups = [
                {k: v for k, v in group.items() if k != 'params'}
                for group in runner.optim_wrapper.param_groups
            ]

    def _check_schedules(
        self, runner: Runner, checkpoint: dict[str, Any], old: Any
    ) -> None:
        """Refuse states that mmengine would load into other schedules."""
        states = checkpoint.get('param_schedulers')
        if self.new_schedule or not isinstance(states, list):
            return
        now = _schedules(_settings(runner))
        # of a checkpoint of an earlier version, only the number is known
        was = None if old is None else _schedules(old)
        if len(states) != len(now) or was not in (None, now):
            held = ', '.join(was or [f'{len(states)} schedules'])
            raise CheckpointError(
                f'the checkpoint holds the state of {held}, and the '
                f'param_scheduler of the config is {", ".join(now) or None}',
                value=now,
                remedy='keep the schedules, or take those of the config with '
                '--resume-with-new-schedule.',
            )

    def before_train(self, runner: Runner) -> None:
        """Report the changes; apply the new schedule."""
        for key, old, new in self._changes:
            if not key.startswith(_OVERRULED):
                text = f'{key} was {_show(old)} and is {_show(new)}.'
            elif self.new_schedule:
                text = f'{key} was {_show(old)}; {_show(new)} is used now.'
            else:
                text = (
                    f'{key} is {_show(new)} in the config, but '
                    f'{_show(old)} of the checkpoint stays; '
                    '--resume-with-new-schedule takes that of the config.'
                )
            runner.logger.warning(f'Resumed: {text}')
        if self._groups is not None:
            groups = runner.optim_wrapper.param_groups
            for group, settings in zip(groups, self._groups, strict=True):
                group.update(settings)
            _advance_schedules(runner)


def _settings(runner: Runner) -> dict[str, Any]:
    """The settings that are compared, as plain values."""
    cfg = runner.cfg.to_dict()
    plain = json.dumps({k: cfg.get(k) for k in _PARTS}, default=str)
    return json.loads(plain)


def _optimizer(settings: Mapping[str, Any]) -> str | None:
    wrapper = settings['optim_wrapper'] or {}
    return (wrapper.get('optimizer') or {}).get('type')


def _schedules(settings: Mapping[str, Any]) -> list[str]:
    """Types of the schedules."""
    parts = settings['param_scheduler'] or []
    parts = [parts] if isinstance(parts, Mapping) else parts
    return [part['type'] for part in parts]


def compare_settings(old: Any, new: Any, key: str = '') -> Iterator[Change]:
    """Yield what differs, as deep in the config as it can be said.

    Args:
        old (Any): Settings as JSON gives them.
        new (Any): Others.
        key (str): Where they are, dotted. Defaults to '', the top.
    """
    if old == new or key in _SILENT:
        return
    both: Any = None
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        # another type has other arguments
        if old.get('type') == new.get('type'):
            both = dict.fromkeys((*old, *new))
    elif _are_parts(old) and _are_parts(new) and len(old) == len(new):
        old, new = ({str(i): v for i, v in enumerate(x)} for x in (old, new))
        both = old
    if both is None:
        yield Change(key, old, new)
        return
    for name in both:
        place = f'{key}.{name}' if key else name
        yield from compare_settings(old.get(name), new.get(name), place)


def _are_parts(value: Any) -> bool:
    """Whether a value is a list of components, not of numbers."""
    return isinstance(value, list) and all(
        isinstance(part, Mapping) for part in value
    )


def _show(value: Any) -> str:
    """A value in a sentence."""
    text = 'not set' if value is None else str(value)
    return text if len(text) <= 80 else f'{text[:77]}...'


def _advance_schedules(runner: Runner) -> None:
    """Bring new schedules to where the run is."""
    schedules = runner.param_schedulers or []
    if isinstance(schedules, Mapping):
        schedules = [*chain.from_iterable(schedules.values())]
    # those that follow a score have no past
    schedules = [s for s in schedules if not getattr(s, 'need_val_args', 0)]
    length, done = len(runner.train_dataloader), 0
    with warnings.catch_warnings():
        # of a step of a schedule before one of the optimizer
        warnings.simplefilter('ignore')
        for epoch in range(runner.epoch + 1):
            is_over = epoch < runner.epoch
            end = min(done + length, runner.iter) if is_over else runner.iter
            for _ in range(done, end):
                for schedule in schedules:
                    if not schedule.by_epoch:
                        schedule.step()
            done = end
            for schedule in schedules if is_over else ():
                if schedule.by_epoch:
                    schedule.step()
