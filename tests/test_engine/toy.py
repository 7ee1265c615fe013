# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""A model and a dataset with every kind of randomness a training has."""

import json
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import nn
from torch.utils.data import Dataset

from referformer.registry import DATASETS, HOOKS, METRICS, MODELS
from referformer.utils.seeding import seed_sample


@DATASETS.register_module()
class ToyDataset(Dataset):
    """Samples with noise from Python's, numpy's and torch's generators."""

    def __init__(self, length=12, noisy=True, silent_at=None, seconds=0):
        self.length = length
        self.noisy = noisy
        self.silent_at = silent_at
        self.seconds = seconds
        self.metainfo = {'classes': ('object',), 'scale': np.float64(2.5)}

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        if index == self.silent_at:
            time.sleep(1000)
        time.sleep(self.seconds)
        seed_sample(index)
        noise = random.random() + np.random.rand()  # noqa: NPY002
        inputs = torch.randn(4) + noise
        if not self.noisy:
            inputs = torch.arange(4.0) + index
        return {'inputs': inputs, 'data_samples': float(index)}


@MODELS.register_module()
class ToyModel(BaseModel):
    """Two layers with batch norm and dropout."""

    def __init__(self, width=8):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(4, width),
            nn.BatchNorm1d(width),
            nn.Dropout(0.5),
            nn.Linear(width, 1),
        )

    def forward(self, inputs, data_samples=None, mode='tensor'):
        out = self.net(torch.stack(list(inputs)))[:, 0]
        if mode == 'loss':
            target = torch.as_tensor(data_samples, dtype=out.dtype)
            return {'loss': (out - target).square().mean()}
        return [out.detach()]


@HOOKS.register_module()
class RecordLossHook(Hook):
    """Append each loss to a file, and die by ``kill_at`` iterations."""

    def __init__(self, path, kill_at=None, hard=False):
        self.path = Path(path)
        self.kill_at = kill_at
        self.hard = hard

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        with self.path.open('a') as file:
            loss = outputs['loss'].item().hex()
            file.write(json.dumps([runner.iter, loss]) + '\n')
        if runner.iter + 1 == self.kill_at:
            if self.hard:
                os.kill(os.getpid(), signal.SIGKILL)
            raise KeyboardInterrupt

    @staticmethod
    def read(path):
        """Return the losses of the file, later runs over earlier ones."""
        return dict(map(json.loads, Path(path).read_text().splitlines()))


@METRICS.register_module()
class ToyMetric(BaseMetric):
    """Mean of the outputs, and the number of samples."""

    default_prefix = 'toy'

    def process(self, data_batch, data_samples):
        self.results.extend(out.item() for out in data_samples[0])

    def compute_metrics(self, results):
        return {'mean': float(np.mean(results)), 'number': len(results)}
