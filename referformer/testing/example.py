# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""How the example model is made: drawn, trained, scored, published.

``tools/train_example.sh`` calls it. Every step is a command of this
repository; a finished one is not repeated.
"""

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from referformer.formats.files import write_json
from referformer.testing.quickstart import Steps, last_checkpoint
from referformer.utils.cli import run

ROOT = Path(__file__).parents[2]
NAME = 'referformer_temporal-resnet_example'
#: Scored videos of each draw.
TEST_VIDEOS = 200
CONFIGS = 'configs/example'
SHUFFLED = f'{CONFIGS}/referformer_temporal-resnet_shuffled.py'
#: Seeds of the scored draws.
DRAWS = (1, 2, 3)


class TrainingSet(NamedTuple):
    """Drawn videos to learn from.

    Attributes:
        videos: How many.
        seed: Seed; none of a scored draw.
        cue: In what the twins of every video differ.
    """

    videos: int
    seed: int
    cue: str


SETS = {
    'train': TrainingSet(8000, 0, 'all'),
    'relations': TrainingSet(2400, 10, 'relation'),
}


class Stage(NamedTuple):
    """A training; each begins with the weights of the one before.

    Attributes:
        name: Name of the step and of its folder.
        title: What the user reads.
        config: Config file.
        datasets: Key of the config's training set -> key of :data:`SETS`.
    """

    name: str
    title: str
    config: str
    datasets: Mapping[str, str] = MappingProxyType({'dataset': 'train'})


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
    Stage(
        'relations',
        'Relations: more sentences about them',
        f'{CONFIGS}/referformer_temporal-resnet_relations.py',
        {'dataset.datasets.0': 'train', 'dataset.datasets.1': 'relations'},
    ),
)


def _draw(steps: Steps, data: Path, videos: int | None) -> None:
    """Draw all sets, of ``videos`` videos each where that is given."""
    tool = 'tools/dataset_converters/make_motion_scenes.py'
    for name, drawn in SETS.items():
        count = videos or drawn.videos
        steps.run(
            f'draw_{name}',
            f'Draw {count} videos to learn from: {name}',
            *(tool, data / name),
            *(f'--train-videos={count}', '--valid-videos=0'),
            *(f'--seed={drawn.seed}', f'--cue={drawn.cue}'),
            output=data / name,
        )
    count = videos or TEST_VIDEOS
    for seed in DRAWS:
        steps.run(
            f'draw_test{seed}',
            f'Draw {count} unseen videos, seed {seed}',
            *(tool, data / f'test{seed}'),
            *('--train-videos=0', f'--valid-videos={count}'),
            f'--seed={seed}',
            output=data / f'test{seed}',
        )


def _train(
    steps: Steps, data: Path, seed: int, settings: Sequence[str]
) -> Path:
    """Run the trainings; return the last checkpoint."""
    previous = None
    for stage in STAGES:
        folder = steps.work_dir / stage.name
        options = [
            f'train_dataloader.{key}.data_root={data / name}/'
            for key, name in stage.datasets.items()
        ]
        options += [f'randomness.seed={seed}', *settings]
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


def _describe(
    scores: dict[str, float], steps: Steps, videos: int | None
) -> dict[str, Any]:
    """Return what the model card shows."""
    minutes = sum(steps.seconds[stage.name] for stage in STAGES) / 60
    rounded = {name: round(value, 1) for name, value in scores.items()}
    unseen = f'{videos or TEST_VIDEOS} unseen videos'
    unseen += f', mean of {len(DRAWS)} draws'
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
            'Training Data': ' and '.join(
                f'{videos or drawn.videos} ({drawn.cue}, seed {drawn.seed})'
                for drawn in SETS.values()
            )
            + ' drawn videos of 8 frames, 128 x 192 (make_motion_scenes.py)',
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
    parser.add_argument(
        '--videos', type=int, help='videos of each set, for a short trial'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        help='settings of all trainings, key=value, for a short trial',
    )
    args = parser.parse_args()
    work_dir, data = args.work_dir.resolve(), args.data.resolve()
    work_dir.mkdir(parents=True, exist_ok=True)
    total = len(SETS) + len(STAGES) + 4 * len(DRAWS) + 1
    steps = Steps(ROOT, work_dir, total)
    _draw(steps, data, args.videos)
    checkpoint = _train(steps, data, args.seed, args.cfg_options)
    scores = _score(steps, checkpoint, data)
    write_json(work_dir / 'scores.json', scores)
    entry = work_dir / 'entry.json'
    write_json(entry, _describe(scores, steps, args.videos))
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
