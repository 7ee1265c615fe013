# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Label the videos of a manifest with the actors of a Ray cluster.

Example:
    python projects/ray_labelling/label.py videos.jsonl labels \
        --config referformer_r50_ytvos --checkpoint r50.pth --actors 8 --gpus 1
"""

import argparse
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray

from referformer.apis.labelling import Labeller
from referformer.formats.manifest import LabelJob, read_manifest
from referformer.utils.configs import find_config


class LabelActor:
    """A process with a model; takes lines of the manifest."""

    def __init__(self, *args: Any) -> None:
        self.label = Labeller(*args)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Label the videos; return what became of each."""
        jobs = [LabelJob(**json.loads(line)) for line in batch['job']]
        return {'state': [self.label(job).state for job in jobs]}


def main(argv: list[str] | None = None) -> Counter:
    """Label the videos; count what became of them."""
    parser = argparse.ArgumentParser(description='Label videos with Ray.')
    parser.add_argument('manifest', help='see tools/label_videos.py --help')
    parser.add_argument('out', help='folder on a disk that all nodes see')
    parser.add_argument('--config', required=True)
    parser.add_argument('--checkpoint', required=True)
    parser.add_argument('--actors', type=int, default=1)
    parser.add_argument('--gpus', type=float, default=0, help='of an actor')
    args = parser.parse_args(argv)
    root = Path(args.manifest).parent
    paths = find_config(args.config), args.checkpoint, args.out, root
    jobs = [json.dumps(asdict(job)) for job in read_manifest(args.manifest)]
    states = ray.data.from_items([{'job': job} for job in jobs]).map_batches(
        LabelActor,
        fn_constructor_args=tuple(str(Path(p).resolve()) for p in paths),
        batch_size=16,
        compute=ray.data.ActorPoolStrategy(size=args.actors),
        num_gpus=args.gpus,
        # an actor that dies is started again, and its videos with it
        max_restarts=-1,
        max_task_retries=-1,
    )
    counts = Counter(row['state'] for row in states.iter_rows())
    print(dict(counts))
    return counts


if __name__ == '__main__':
    main()
