# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Hook that never leaves a run without a good checkpoint."""

import errno
import re
import shutil
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from referformer.checkpoints.atomic_backend import ATOMIC_BACKEND
from referformer.checkpoints.latest import (
    checkpoints_in,
    count_not_finite,
)
from referformer.errors import CheckpointError, ConfigError
from referformer.formats.files import unfinished_files, write_atomic
from referformer.registry import HOOKS

# A step in the middle of an epoch is kept until the next checkpoint.
_MIDDLE = 'iter_{}.pth'
# Key of the message hub: the epoch, or iteration, of the last validation.
_VALIDATED = 'validated'


@HOOKS.register_module()
class ReferCheckpointHook(CheckpointHook):
    """mmengine's hook for machines that fail.

    A checkpoint gets its name when it is whole and on the disk, and only then
    the oldest is deleted. Weights that are not finite are not saved. Those of
    an earlier training in the same folder are put aside when a new one
    begins, so that ``--resume`` does not go on from them.

    With ``save_best``, the weights of the best validation are kept in
    ``best_<score>_epoch_<n>.pth`` as well. A run that was interrupted before
    the validation of its last epoch begins with it.

    Args:
        *args: See :class:`mmengine.hooks.CheckpointHook`.
        interval_iters (int, optional): Save every so many iterations too, in
            a training by epochs; only the newest of these is kept. Defaults
            to None.
        **kwargs: See :class:`mmengine.hooks.CheckpointHook`.

    Raises:
        ConfigError: If ``interval_iters`` is below 1, or ``save_best`` names
            several scores.
    """

    def __init__(
        self, *args: Any, interval_iters: int | None = None, **kwargs: Any
    ) -> None:
        if interval_iters is not None and interval_iters < 1:
            raise ConfigError(
                f'interval_iters is {interval_iters}; it must be at least 1.'
            )
        kwargs.setdefault('backend_args', dict(backend=ATOMIC_BACKEND))
        super().__init__(*args, **kwargs)
        if len(self.save_best or ()) > 1:
            raise ConfigError(
                f'save_best is {self.save_best}; give one score.',
                value=self.save_best,
            )
        self.interval_iters = interval_iters
        self._due = False

    def before_train(self, runner: Runner) -> None:
        """Look at the free space before the first step.

        Raises:
            ConfigError: If not even two checkpoints fit.
        """
        super().before_train(runner)
        self._tidy_up(runner)
        self._check_space(runner)
        self._validate_last_epoch(runner)

    def _check_space(self, runner: Runner) -> None:
        folder = Path(self.out_dir)
        if not is_main_process() or not folder.is_dir():
            return
        # the weights and, of AdamW, two moments
        size = 3 * sum(
            value.numel() * value.element_size()
            for value in runner.model.state_dict().values()
        )
        free = shutil.disk_usage(folder).free
        if free < 2 * size:
            raise ConfigError(
                f'{folder} has {free / 2**20:.0f} MiB free and a checkpoint '
                f'takes about {size / 2**20:.0f} MiB; two must fit.',
                file=folder,
                remedy='free some space or choose another --work-dir.',
            )

    def _validate_last_epoch(self, runner: Runner) -> None:
        """Catch up on a validation that an interruption prevented."""
        loop, epoch = runner.train_loop, runner.epoch
        if (
            self.save_best
            and self.by_epoch
            and runner.val_loop is not None
            and runner.iter == epoch * len(runner.train_dataloader) > 0
            and epoch >= loop.val_begin
            and (epoch % loop.val_interval == 0 or epoch == loop.max_epochs)
            and runner.message_hub.runtime_info.get(_VALIDATED) != epoch
        ):
            runner.val_loop.run()

    def _tidy_up(self, runner: Runner) -> None:
        """Put aside or remove what this training must not take for its own."""
        folder = Path(self.out_dir)
        if is_main_process() and folder.is_dir():
            for path in unfinished_files(folder, '.pth'):
                path.unlink()  # of a process that was killed
            if runner.iter == 0 and not runner._resume:
                self._put_aside(runner)

    def _put_aside(self, runner: Runner) -> None:
        """Move the checkpoints of an earlier training to another folder."""
        begun_with = Path(runner._load_from or '').resolve()
        earlier = [
            path
            for path in checkpoints_in(self.out_dir)
            if path.resolve() != begun_with
        ]
        if earlier:
            folder = Path(self.out_dir, f'before_{runner.timestamp}')
            folder.mkdir(exist_ok=True)
            for path in earlier:
                path.rename(folder / path.name)
            runner.logger.warning(
                f'{len(earlier)} checkpoints of an earlier training were '
                f'moved to {folder}; --resume would have gone on from them.'
            )

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        """Save in the middle of an epoch, if it is time."""
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        if not self.interval_iters or not self.by_epoch:
            return
        self._due |= (runner.iter + 1) % self.interval_iters == 0
        # gradients that are being accumulated are not saved
        accumulated = runner.optim_wrapper.should_update()
        at_end = self.end_of_epoch(runner.train_dataloader, batch_idx)
        if self._due and accumulated and not at_end:
            self._due = False
            self.save_now(runner)

    def save_now(self, runner: Runner) -> None:
        """Save after the present iteration."""
        if not self.by_epoch:
            self._save_checkpoint(runner)
            return
        count = runner.iter + 1
        runner.logger.info(f'Saving checkpoint at {count} iterations')
        meta = dict(epoch=runner.epoch, iter=count)
        self._write(runner, _MIDDLE.format(count), meta, by_epoch=False)
        self._remove_middle(but=_MIDDLE.format(count))

    def _save_checkpoint_with_step(
        self, runner: Runner, step: int, meta: dict[str, Any]
    ) -> None:
        """Save under the number of an epoch or iteration; then prune."""
        oldest = None
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                oldest = self.keep_ckpt_ids[0]
            self.keep_ckpt_ids.append(step)  # drops the oldest
            runner.message_hub.update_info(
                'keep_ckpt_ids', list(self.keep_ckpt_ids)
            )
        name = self.filename_tmpl.format(step)
        self._write(runner, name, meta, self.by_epoch)
        if is_main_process() and oldest is not None:
            name = self.filename_tmpl.format(oldest)
            Path(self.out_dir, name).unlink(missing_ok=True)
        self._remove_middle()

    def _save_best_checkpoint(
        self, runner: Runner, metrics: dict[str, float]
    ) -> None:
        """Save the weights of the best score; then delete the former ones.

        Raises:
            ConfigError: If the validation gives no such score.
        """
        hub = runner.message_hub
        step = runner.epoch if self.by_epoch else runner.iter
        hub.update_info(_VALIDATED, step)
        if not self.save_best:
            return
        if 'auto' in self.key_indicators:
            self._init_rule(self.rules, [next(iter(metrics))])
        [key], [rule] = self.key_indicators, self.rules
        if key not in metrics:
            raise ConfigError(
                f'save_best={key!r} is no score of the validation, which '
                f'gives {", ".join(metrics)}.',
                value=key,
            )
        best = hub.runtime_info.get('best_score', self.init_value_map[rule])
        if not self.is_better_than[key](metrics[key], best):
            return
        # only of this folder: it may be a copy of another one
        former = Path(hub.runtime_info.get('best_ckpt') or '.').name
        name = f'best_{_plain(key)}_{self.filename_tmpl.format(step)}'
        meta = dict(epoch=runner.epoch, iter=runner.iter)
        self._write(runner, name, meta, by_epoch=False, weights_only=True)
        if is_main_process() and former not in ('', name):
            Path(self.out_dir, former).unlink(missing_ok=True)
        self.best_ckpt_path = self.file_backend.join_path(self.out_dir, name)
        hub.update_info('best_score', metrics[key])
        hub.update_info('best_ckpt', self.best_ckpt_path)
        runner.logger.info(f'The best {key} so far, saved to {name}')
        # once more, so that a resumed run knows of it
        if self.last_ckpt is not None:
            self._save_checkpoint_with_step(runner, step, meta)

    def _write(
        self,
        runner: Runner,
        name: str,
        meta: dict[str, Any],
        by_epoch: bool,
        weights_only: bool = False,
    ) -> None:
        """Write one checkpoint.

        Raises:
            CheckpointError: If the weights are not finite, or the disk is
                full. The checkpoints before stay.
        """
        model = runner.model
        model = model.module if is_model_wrapper(model) else model
        path = self.file_backend.join_path(self.out_dir, name)
        broken = count_not_finite(model.state_dict())
        if broken:
            raise CheckpointError(
                f'{broken} tensors of the model hold numbers that are not '
                f'finite, so {path} was not written{self._last()}',
                file=path,
                remedy='lower the learning rate, or look at the data of the '
                'last steps.',
            )
        full = not weights_only
        if full:
            runner.message_hub.update_info('last_ckpt', path)
        try:
            runner.save_checkpoint(
                self.out_dir,
                name,
                self.file_client_args,
                save_optimizer=full and self.save_optimizer,
                save_param_scheduler=full and self.save_param_scheduler,
                meta=meta,
                by_epoch=by_epoch,
                backend_args=self.backend_args,
                **self.args,
            )
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise CheckpointError(
                f'{path} was not written, as the disk is full{self._last()}',
                file=path,
                remedy='free some space and go on with --resume.',
            ) from error
        if not full:
            return
        self.last_ckpt = path
        if is_main_process():
            write_atomic(Path(runner.work_dir, 'last_checkpoint'), path)

    def _last(self) -> str:
        """Name the last good checkpoint, in brackets."""
        if self.last_ckpt is None:
            return ' (there is no earlier one)'
        return f' (the last one is {self.last_ckpt})'

    def _remove_middle(self, but: str | None = None) -> None:
        """Delete the checkpoints in the middle of an epoch, but one."""
        if self.by_epoch and is_main_process():
            for path in Path(self.out_dir).glob(_MIDDLE.format('*')):
                if path.name != but:
                    path.unlink(missing_ok=True)


def _plain(key: str) -> str:
    """Name of a score for a file."""
    return re.sub(r'[^\w.+-]+', '_', key)
