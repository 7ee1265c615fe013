# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Kill a training at random moments; resume it; compare the final weights.

    python -m tests.soak.kill_and_resume --cycles 50

A cycle starts or resumes a training of one process or of two, with a worker
of a data loader each, and ends it with ``kill -9``: all processes or a single
one, after a random number of steps, while it starts, or inside the writing of
a checkpoint. After each no process may be left. Whenever a training reaches
its end, its checkpoint must be that of a training without an interruption,
bit by bit: weights, their moving averages, optimizer and schedules.

Libraries are imported once, and each process of a training is a fork, which
calls ``tools/train.py`` as the command line does.
"""

import argparse
import os
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config

from referformer.formats.files import unfinished_files
from tests.fixtures.trainings import ROOT, Training
from tests.test_engine.test_resume import make_config

#: Seconds within which nothing of a killed training may be left, those for
#: one step, and those for a start.
GONE, STEP, START = 10.0, 120.0, 300.0
SAMPLES = 24


class Outcome(NamedTuple):
    """What happened in all cycles.

    Attributes:
        kills: How often each kind of kill took place.
        runs: Trainings that reached their end, all equal.
        slowest: Seconds until the last process of a killed training was
            gone, at the worst.
    """

    kills: Counter[str]
    runs: int
    slowest: float


# -- what is trained ----------------------------------------------------------


def toy_config(folder: Path) -> Config:
    """Two layers, on noise; sees every kind of random number."""
    cfg = make_config(folder, by_epoch=True, num_workers=1, persistent=True)
    cfg.train_dataloader.dataset.length = SAMPLES
    return cfg


def tiny_config(folder: Path) -> Config:
    """The model of the quickstart, on drawn videos."""
    import referformer.datasets
    import referformer.models  # noqa: F401
    from referformer.testing.scenes import SyntheticParams, make_synthetic_rvos

    data = folder.parent / 'data'
    if not data.is_dir():
        params = SyntheticParams(
            train_videos=12, valid_videos=1, frames=4, height=48, width=64
        )
        make_synthetic_rvos(data, params, progress=False)
    cfg = Config.fromfile(ROOT / 'configs/referformer_tiny_synthetic.py')
    cfg.train_dataloader.dataset.data_root = f'{data}/'
    cfg.train_dataloader.sampler = dict(type='SeededSampler')
    cfg.train_dataloader.dataset.indices = SAMPLES
    broadcast = cfg.train_dataloader.dataset.pipeline[-2]
    broadcast.transforms.append(dict(type='ReferPhotoMetricDistortion'))
    cfg.param_scheduler = [
        dict(type='MultiStepLR', milestones=[1], by_epoch=True)
    ]
    cfg.work_dir = str(folder)
    cfg.custom_hooks = [
        dict(type='RecordLossHook', path=f'{folder}.losses'),
    ]
    cfg.custom_imports = dict(imports=['tests.test_engine.toy'])
    return cfg


def write_config(cfg: Config) -> Path:
    """Add what makes an interruption hard, and write the config."""
    cfg.train_dataloader.batch_size = 2
    cfg.train_cfg = dict(type='ResumableTrainLoop', max_epochs=2)
    cfg.optim_wrapper.accumulative_counts = 2
    cfg.custom_hooks.append(dict(type='EMAHook', momentum=0.1))
    cfg.default_hooks.checkpoint.update(interval_iters=3, max_keep_ckpts=2)
    cfg.default_hooks.logger.interval = 1
    path = Path(f'{cfg.work_dir}.py')
    cfg.dump(path)
    return path


def be_slow(sync: Callable[[int], None] = os.fsync) -> None:
    """Make a slow disk, so that writing takes long enough to be met."""

    def slow_fsync(file: int) -> None:
        time.sleep(0.2)
        sync(file)

    os.fsync = slow_fsync


# -- the soak -----------------------------------------------------------------


def kill_once(training: Training, config: Path, chance: random.Random) -> str:
    """Wait for a random moment, then kill; say what was done.

    Returns:
        str: The kind of kill; '' if the training came to its end before.
    """
    world = len(training.ranks)
    kind = chance.choice(['starting', 'steps', 'steps', 'writing', 'writing'])
    begun = training.begun
    folder = config.with_suffix('')
    if kind == 'writing':
        limit = START

        def now() -> bool:
            return bool(unfinished_files(folder, '.pth'))
    elif kind == 'starting':
        limit = chance.uniform(0.0, 3.0)

        def now() -> bool:
            return training.steps() > begun
    else:
        limit = START
        steps = chance.randrange(1, 9) * world

        def now() -> bool:
            return training.steps() >= begun + steps

    came = training.wait(limit, lambda: now() or bool(training.poll()))
    if training.poll():
        return ''
    if not came and kind != 'starting':
        raise SystemExit(f'no step ended in {limit:g} s, see {training.log}')
    time.sleep(chance.choice([0.0, chance.uniform(0.0, 0.2)]))
    victims = training.ranks
    if world > 1 and chance.random() < 0.6:
        victims = [chance.choice(training.ranks)]
        kind += f', rank {training.ranks.index(victims[0])} of {world} alone'
    training.kill(victims)
    if kind.startswith('writing') and not unfinished_files(folder, '.pth'):
        kind = kind.replace('writing', 'just after writing')
    return kind


def final_state(config: Path) -> dict[str, Any]:
    """All that the last checkpoint of a training has to go on from."""
    content = torch.load(
        config.with_suffix('') / 'epoch_2.pth', weights_only=False
    )
    return {
        key: content[key]
        for key in (
            'state_dict',
            'ema_state_dict',
            'optimizer',
            'param_schedulers',
        )
    }


def differences(a: Any, b: Any, path: str = '') -> list[str]:
    """Name the entries in which two states differ by a bit or more."""
    if isinstance(a, torch.Tensor):
        return [] if torch.equal(a, b) else [path]
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return [path]
        pairs = [(f'{path}.{key}', a[key], b[key]) for key in a]
    elif isinstance(a, list | tuple):
        if len(a) != len(b):
            return [path]
        pairs = [
            (f'{path}.{n}', *both)
            for n, both in enumerate(zip(a, b, strict=True))
        ]
    else:
        return [] if a == b else [path]
    return [
        name
        for where, one, other in pairs
        for name in differences(one, other, where)
    ]


def soak(
    folder: Path,
    cycles: int,
    make: Callable[[Path], Config],
    worlds: tuple[int, ...] = (1, 2),
    seed: int = 0,
    gone: float = GONE,
    say: Callable[[str], None] = print,
) -> Outcome:
    """Kill and resume; compare.

    Raises:
        SystemExit: If a process is left, a training fails, or ends with
            another state.
    """
    chance = random.Random(seed)
    expected = {}
    for world in worlds:
        config = write_config(make(folder / f'whole_{world}'))
        training = Training(config, world, first=be_slow)
        if not training.wait(10 * STEP, lambda t=training: not t.left()):
            raise SystemExit(f'it hangs, see {training.log}')
        expected[world] = final_state(config)
        say(f'{world} processes: {training.steps()} steps, undisturbed')
    kills: Counter[str] = Counter()
    runs, slowest = 0, 0.0
    while True:
        world = worlds[runs % len(worlds)]
        config = write_config(make(folder / f'run_{runs}'))
        while True:
            training = Training(config, world, '--resume', first=be_slow)
            kind = ''
            if kills.total() < cycles:
                kind = kill_once(training, config, chance)
            since = time.monotonic()
            limit = gone if kind else 10 * STEP
            if not training.wait(limit, lambda t=training: not t.left()):
                left = training.left()
                training.kill(left)
                raise SystemExit(
                    f'{len(left)} processes are left {limit:g} s after '
                    f'"{kind}", see {training.log}'
                )
            if not kind:
                break
            kills[kind] += 1
            took = time.monotonic() - since
            slowest = max(slowest, took)
            say(
                f'{kills.total():3} killed ({kind}) after '
                f'{training.steps()} steps, gone in {took:.2f} s'
            )
        if not (config.with_suffix('') / 'epoch_2.pth').exists():
            raise SystemExit(
                f'it has failed with {training.status}, see {training.log}'
            )
        wrong = differences(expected[world], final_state(config))
        if wrong:
            raise SystemExit(f'{config}: differs in {", ".join(wrong[:5])}')
        left = unfinished_files(config.with_suffix(''), '.pth')
        if left:
            raise SystemExit(f'{left[0]} was left behind')
        runs += 1
        say(f'run {runs} of {world} processes: equal, bit by bit')
        shutil.rmtree(config.with_suffix(''))
        if kills.total() >= cycles:
            return Outcome(kills, runs, slowest)


def main() -> None:
    """Run the soak of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--cycles', type=int, default=50)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--model', choices=('tiny', 'toy'), default='tiny')
    args = parser.parse_args()
    make = {'tiny': tiny_config, 'toy': toy_config}[args.model]
    begun = time.monotonic()
    # kept where the soak fails, for its logs
    folder = Path(tempfile.mkdtemp(prefix='soak_'))
    outcome = soak(folder, args.cycles, make, seed=args.seed)
    shutil.rmtree(folder)
    print(f'{outcome.kills.total()} kills, {outcome.runs} trainings equal')
    for kind, count in sorted(outcome.kills.items()):
        print(f'{count:4} {kind}')
    print(
        f'slowest end {outcome.slowest:.2f} s; '
        f'{time.monotonic() - begun:.0f} s in all'
    )


if __name__ == '__main__':
    main()
