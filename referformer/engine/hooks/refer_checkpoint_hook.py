# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Hook that never leaves a run without a good checkpoint."""

import errno
import shutil
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from referformer.checkpoints.atomic_backend import ATOMIC_BACKEND
from referformer.checkpoints.latest import count_not_finite
from referformer.errors import CheckpointError, ConfigError
from referformer.formats.files import write_atomic
from referformer.registry import HOOKS

# A step in the middle of an epoch is kept until the next checkpoint.
_MIDDLE = 'iter_{}.pth'


@HOOKS.register_module()
class ReferCheckpointHook(CheckpointHook):
    """mmengine's hook for machines that fail.

    A checkpoint gets its name when it is whole and on the disk, and only then
    the oldest is deleted. Weights that are not finite are not saved.

    Args:
        *args: See :class:`mmengine.hooks.CheckpointHook`.
        interval_iters (int, optional): Save every so many iterations too, in
            a training by epochs; only the newest of these is kept. Defaults
            to None.
        **kwargs: See :class:`mmengine.hooks.CheckpointHook`.

    Raises:
        ConfigError: If ``interval_iters`` is below 1.
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
        self.interval_iters = interval_iters
        self._due = False

    def before_train(self, runner: Runner) -> None:
        """Look at the free space before the first step.

        Raises:
            ConfigError: If not even two checkpoints fit.
        """
        super().before_train(runner)
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

    def _write(
        self, runner: Runner, name: str, meta: dict[str, Any], by_epoch: bool
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
        runner.message_hub.update_info('last_ckpt', path)
        try:
            runner.save_checkpoint(
                self.out_dir,
                name,
                self.file_client_args,
                save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler,
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
