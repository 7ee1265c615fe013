# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Train loop that goes on in the middle of an epoch."""

from mmengine.runner import EpochBasedTrainLoop

from referformer.engine.samplers.seeded_sampler import SeededSampler
from referformer.errors import ConfigError
from referformer.registry import LOOPS
from referformer.utils.freed_memory import return_freed_memory


@LOOPS.register_module()
class ResumableTrainLoop(EpochBasedTrainLoop):
    """mmengine's loop, whose first epoch may begin at any iteration.

    Arguments are those of :class:`mmengine.runner.EpochBasedTrainLoop`. A
    checkpoint of ``ReferCheckpointHook(interval_iters=...)`` leads to the
    middle of an epoch; there, ``SeededSampler`` passes over the samples that
    the epoch has seen.

    Raises:
        ConfigError: If the sampler cannot begin in the middle.
    """

    #: Set where the order of the data has changed, so that the rest of an
    #: epoch is not what the checkpoint left.
    whole_epochs = False

    def run_epoch(self) -> None:
        """Iterate one epoch, or the rest of one."""
        # What a validation has freed lies in pieces between what training
        # uses; the next one might not fit in and take more.
        return_freed_memory()
        done = self._iter - self._epoch * len(self.dataloader)
        if self.whole_epochs:
            done = 0
        # all of it, if the last iteration was saved but not the epoch
        if not 0 < done <= len(self.dataloader):
            super().run_epoch()
            return
        sampler = self.dataloader.sampler
        if not isinstance(sampler, SeededSampler):
            raise ConfigError(
                f'the checkpoint is from iteration {done} of an epoch, and '
                f'{type(sampler).__name__} cannot begin there; use '
                'sampler=dict(type="SeededSampler", ...), or go on from an '
                'epoch_*.pth.'
            )
        sampler.skip = done * self.dataloader.batch_size
        self.runner.logger.info(
            f'Epoch {self._epoch + 1} goes on after {done} of '
            f'{len(self.dataloader)} iterations.'
        )
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        for idx, data_batch in enumerate(self.dataloader, start=done):
            self.run_iter(idx, data_batch)
        sampler.skip = 0
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1
