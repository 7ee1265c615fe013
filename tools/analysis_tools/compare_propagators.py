# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Score masks with and without propagators, by how well objects are seen.

The model predicts each video once; then each propagator gets the same masks.
The set must have the layout of Ref-YouTube-VOS, with true masks, such as the
synthetic ones.

Example:
    python tools/analysis_tools/compare_propagators.py CONFIG CHECKPOINT \
        --data data/quickstart/scenes/valid --propagate flow
"""

import argparse
from pathlib import Path

from referformer.utils.cli import positive, run

#: An object is hidden in part in a frame where it shows less of itself than
#: this share of the most that it shows in a frame.
WHOLE = 0.8
GROUPS = ('whole', 'hidden in part', 'out of sight', 'all')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description='Score masks with and without propagators, by how well '
        'objects are seen.'
    )
    parser.add_argument('config', help='config file, or name of a config')
    parser.add_argument('checkpoint', help='its weights')
    parser.add_argument(
        '--data',
        type=Path,
        required=True,
        metavar='DIR',
        help='folder with JPEGImages and Annotations; the expressions are in '
        'DIR/../meta_expressions/<name of DIR>/meta_expressions.json',
    )
    parser.add_argument(
        '--propagate',
        nargs='+',
        default=['flow'],
        metavar='CONFIG',
        help='flow, and config files such as configs/propagators/sam3.py',
    )
    parser.add_argument('--videos', type=positive, help='the first N only')
    parser.add_argument('--window', type=int, help='frames seen at once')
    parser.add_argument('--device', help='such as cuda:0 or cpu')
    return parser.parse_args(argv)


def group_of(areas: list[int]) -> str:
    """Sort an object by the least that is seen of it in a frame."""
    if min(areas) == 0:
        return 'out of sight'
    return 'whole' if min(areas) >= WHOLE * max(areas) else 'hidden in part'


def main(argv: list[str] | None = None) -> None:
    """Print J&F in percent, a line per propagator and a column per group."""
    args = parse_args(argv)

    from collections import defaultdict

    import numpy as np
    from tqdm import tqdm

    from referformer.apis import ReferInferencer, open_source
    from referformer.evaluation.functional.kernel import MaskOutline, compare
    from referformer.formats.expressions import read_expressions
    from referformer.formats.label_maps import read_label_map
    from referformer.prediction import propagate_results
    from referformer.prediction.propagation import build_propagator

    propagators = {'none': None}
    for name in args.propagate:
        propagators[name] = build_propagator(name)
    inferencer = ReferInferencer(
        args.config, args.checkpoint, args.device, show_progress=False
    )
    model = inferencer.model
    device = next(model.parameters()).device
    predictor = model.predictor.override(propagator='none', window=args.window)
    table = args.data.parent / 'meta_expressions' / args.data.name
    videos = read_expressions(table / 'meta_expressions.json')
    scores: dict = defaultdict(list)
    for video_id, entry in tqdm([*videos.items()][: args.videos]):
        source = open_source(args.data / 'JPEGImages' / video_id)
        folder = args.data / 'Annotations' / video_id
        names = [frame.name for frame in source]
        labels = [read_label_map(folder / f'{name}.png') for name in names]
        expressions = list(entry['expressions'].values())
        results = list(
            inferencer.forward(
                source, [e['exp'] for e in expressions], predictor, False
            )
        )
        truths = []
        for expression in expressions:
            masks = [maps == int(expression['obj_id']) for maps in labels]
            group = group_of([int(mask.sum()) for mask in masks])
            truths.append((group, [MaskOutline(mask) for mask in masks]))
        for name, propagator in propagators.items():
            found = results
            if propagator is not None:
                what = (propagator, source, results, device, False)
                found = list(propagate_results(*what))
            for e, (group, masks) in enumerate(truths):
                pairs = zip(found, masks, strict=True)
                score = np.mean([compare(r.masks[e], m) for r, m in pairs])
                scores[name, group].append(score)
                scores[name, 'all'].append(score)
    print('J&F'.ljust(24), *(group.rjust(14) for group in GROUPS))
    for name in propagators:
        means = [scores[name, group] for group in GROUPS]
        cells = [f'{100 * np.mean(m):.1f}' if m else '-' for m in means]
        print(name.ljust(24), *(cell.rjust(14) for cell in cells))
    counts = [str(len(scores['none', group])) for group in GROUPS]
    print('expressions'.ljust(24), *(count.rjust(14) for count in counts))


if __name__ == '__main__':
    run(main)
