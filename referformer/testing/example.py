# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""How the example model is made: drawn, trained, scored, published.

``tools/train_example.sh`` calls it. Every step is a command of this
repository; a finished one is not repeated.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any, NamedTuple

from referformer.formats.files import write_json
from referformer.testing.quickstart import Steps, last_checkpoint
from referformer.utils.cli import run

ROOT = Path(__file__).parents[2]
NAME = 'referformer_temporal-resnet_example'
CONFIGS = 'configs/example'
SHUFFLED = f'{CONFIGS}/referformer_temporal-resnet_shuffled.py'
#: Training videos, and scored ones of each draw.
TRAIN_VIDEOS, TEST_VIDEOS = 8000, 200
#: Seeds of the scored draws; the training set has seed 0.
DRAWS = (1, 2, 3)


class Stage(NamedTuple):
    """A training; each begins with the weights of the one before.

    Attributes:
        name: Name of the step and of its folder.
        title: What the user reads.
        config: Config file.
    """

    name: str
    title: str
    config: str


STAGES = (
    Stage(
        'naming',
        'Backbone: name objects and motions',
        f'{CONFIGS}/temporal-resnet_naming.py',
    ),
    Stage(
        'grounding',
        'Words: which pixels are meant',
        f'{CONFIGS}/referformer_temporal-resnet_grounding.py',
    ),
    Stage('example', 'Masks: the decoders', f'{CONFIGS}/{NAME}.py'),
)


def _draw(steps: Steps, data: Path) -> None:
    tool = 'tools/dataset_converters/make_motion_scenes.py'
    steps.run(
        'draw_train',
        f'Draw {TRAIN_VIDEOS} videos',
        tool,
        data / 'train',
        f'--train-videos={TRAIN_VIDEOS}',
        '--valid-videos=0',
        output=data / 'train',
    )
    for seed in DRAWS:
        steps.run(
            f'draw_test{seed}',
            f'Draw {TEST_VIDEOS} unseen videos, seed {seed}',
            tool,
            data / f'test{seed}',
            '--train-videos=0',
            f'--valid-videos={TEST_VIDEOS}',
            f'--seed={seed}',
            output=data / f'test{seed}',
        )


def _train(steps: Steps, data: Path, seed: int) -> Path:
    """Run the trainings; return the last checkpoint."""
    previous = None
    for stage in STAGES:
        folder = steps.work_dir / stage.name
        options = [
            f'train_dataloader.dataset.data_root={data / "train"}/',
            f'randomness.seed={seed}',
        ]
        if previous is not None:
            options.append(f'load_from={previous}')
        steps.run(
            stage.name,
            stage.title,
            *('tools/train.py', stage.config, f'--work-dir={folder}'),
            *('--resume', '--cfg-options', *options),
            output=folder / 'last_checkpoint',
        )
        previous = last_checkpoint(folder)
    return previous


def _score(steps: Steps, checkpoint: Path, data: Path) -> dict[str, float]:
    """Score each draw; return the means over the draws."""
    variants = {
        'right': (f'{CONFIGS}/{NAME}.py', 'self'),
        'wrong': (f'{CONFIGS}/{NAME}.py', 'other_object'),
        'shuffled': (SHUFFLED, 'self'),
    }
    found: dict[str, list[float]] = {}
    for seed in DRAWS:
        for variant, (config, source) in variants.items():
            out = steps.work_dir / f'scores_{variant}{seed}.json'
            steps.run(
                f'score_{variant}{seed}',
                f'Score draw {seed}: {variant}',
                *('tools/test.py', config, checkpoint),
                f'--work-dir={steps.work_dir / "test"}',
                f'--out={out}',
                '--cfg-options',
                f'test_dataloader.dataset.data_root={data / f"test{seed}"}/',
                f'test_dataloader.dataset.expression_from={source}',
                output=out,
            )
            for key, value in json.loads(out.read_text()).items():
                name = f'{variant} {key.removeprefix("refer/")}'
                found.setdefault(name, []).append(value)
    return {name: statistics.mean(values) for name, values in found.items()}


def _describe(scores: dict[str, float], steps: Steps) -> dict[str, Any]:
    """Return what the model card shows."""
    minutes = sum(steps.seconds[stage.name] for stage in STAGES) / 60
    rounded = {name: round(value, 1) for name, value in scores.items()}
    unseen = f'{TEST_VIDEOS} unseen videos, mean of {len(DRAWS)} draws'
    cues = {
        name.split('=')[1].split('/')[0]: value
        for name, value in rounded.items()
        if name.startswith('right cue=') and name.endswith('/J')
    }
    whole = {
        'J&F': rounded['right J&F'],
        'J': rounded['right J'],
        'F': rounded['right F'],
        "J&F with another object's expression": rounded['wrong J&F'],
        **{f'J, cue {cue}': value for cue, value in cues.items()},
        'J, cue motion, frames out of order': rounded['shuffled cue=motion/J'],
    }
    return {
        'Name': NAME,
        'Metadata': {
            'Training Data': f'{TRAIN_VIDEOS} drawn videos of 8 frames, '
            '128 x 192 (make_motion_scenes.py, seed 0)',
            'Training Command': 'bash tools/train_example.sh',
            'Training Minutes': f'{minutes:.0f}',
            'Limits': 'knows the drawn objects, motions and words of its '
            'training set alone',
        },
        'Results': [
            {
                'Dataset': unseen,
                'Protocol': 'mean over expressions',
                'Metrics': whole,
                'Source': 'measured',
                'Measured By': 'tools/train_example.sh',
            }
        ],
    }


def main() -> None:
    """Run all steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--data', type=Path, default=Path('data/example'))
    parser.add_argument(
        '--work-dir', type=Path, default=Path('work_dirs/example')
    )
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', type=Path, required=True)
    args = parser.parse_args()
    work_dir, data = args.work_dir.resolve(), args.data.resolve()
    work_dir.mkdir(parents=True, exist_ok=True)
    total = 2 + len(STAGES) + 4 * len(DRAWS)
    steps = Steps(ROOT, work_dir, total)
    _draw(steps, data)
    checkpoint = _train(steps, data, args.seed)
    scores = _score(steps, checkpoint, data)
    write_json(work_dir / 'scores.json', scores)
    entry = work_dir / 'entry.json'
    write_json(entry, _describe(scores, steps))
    steps.run(
        'publish',
        'Publish the model',
        'tools/model_converters/publish_model.py',
        checkpoint,
        args.out.resolve(),
        f'--config={CONFIGS}/{NAME}.py',
        f'--name={NAME}',
        f'--entry={entry}',
        '--half',
        output=args.out.resolve(),
    )


if __name__ == '__main__':
    run(main)
