# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Records a case of this package's own model in the published layout."""

import json
import shutil
from pathlib import Path

import numpy as np

from referformer.checkpoints.published import to_published

from .golden_case import GOLDEN_DIR, GoldenCase


def record_case(
    folder: Path, name: str, sizes: list[tuple[int, int]], num_frames: int
) -> None:
    """Write ``<name>.npz`` and its keys.

    Args:
        folder (Path): Where to.
        name (str): Name of the case, ``r50_...``.
        sizes (list[tuple[int, int]]): (height, width) of each clip.
        num_frames (int): Frames T.
    """
    path = folder / f'{name}.npz'
    shutil.copy(GOLDEN_DIR / 'r50_keys.json', folder / f'{name}_keys.json')
    record = {
        'meta/frames': num_frames,
        'meta/sizes': sizes,
        'out/pred_logits': np.zeros((len(sizes), num_frames, 5, 1)),
        'mid/text/last_hidden': np.zeros((len(sizes), 6, 768)),
    }
    np.savez(path, **record)
    case = GoldenCase(folder, name)

    def add(key, tensor):
        record[key] = tensor.detach().numpy()

    def sample(key, tensor):
        flat = tensor.detach().numpy().ravel()
        index = np.linspace(0, flat.size - 1, 256).astype(np.int64)
        record[f'{key}/sample'] = flat[index]
        record[f'{key}/stats'] = [
            flat.size,
            flat.mean(dtype=np.float64),
            flat.std(dtype=np.float64),
            np.abs(flat).max(),
        ]

    run, preds = case.run, case.run['preds']
    add('mid/text/last_hidden', run['language'].last_hidden_state)
    add('mid/text/pooler', run['language'].pooler_output)
    levels = (run['visual'].fine, *run['visual'].levels)
    for i, level in enumerate(levels):
        sample(f'mid/backbone/pos{i}', level.pos)
    for i, level in enumerate(run['backbone']):
        sample(f'mid/backbone/feat{i}', level)
    for i, level in enumerate(run['visual'].levels):
        sample(f'mid/input_proj{i}/0', level.map)
    sample('mid/encoder/0', run['encoder'])
    for i, level in enumerate(run['decoded'].memory):
        sample(f'mid/transformer/1.{i}', level)
    sample('mid/transformer/0', run['decoded'].hidden)
    sample('mid/transformer/2', run['decoded'].init_reference)
    sample('mid/transformer/3', run['decoded'].references)
    sample('mid/pixel_decoder/0', run['mask_feats'])
    for part in ('logits', 'boxes', 'masks'):
        layers = getattr(preds, part)
        add(f'out/pred_{part}', layers[-1])
        add(f'nopad/pred_{part}', getattr(case.nopad['preds'], part)[-1])
        for i, layer in enumerate(layers[:-1]):
            write = sample if part == 'masks' else add
            write(f'aux{i}/pred_{part}', layer)
    entering = run['decoded'].references[-2][..., :2]
    add('out/reference_points', entering.unflatten(0, (len(sizes), -1)))
    criterion = case.model.head.criterion
    masks = criterion.sample_masks(case.targets.masks)
    matched = criterion.matcher(preds, case.targets._replace(masks=masks))
    add('loss/matched_query', matched[-1])
    # one weight of 1 stands for the weight that ours are multiplied with
    weights = {}
    for key, loss in case.losses.items():
        prefix, _, term = key.rpartition('.')
        term = term.replace('loss_cls', 'loss_ce')
        their_name = f'{term}_{prefix[1:]}' if prefix else term
        weights[their_name] = 1.0
        add(f'loss/{their_name}', loss)
    record['loss/weights'] = json.dumps(weights)
    losses = case.losses.values()
    record['loss/total'] = sum(float(x.detach()) for x in losses)
    named = case.model.named_parameters()
    grads = {n: p.grad for n, p in named if p.grad is not None}
    record['grad/norms'] = json.dumps(
        {
            key: float(grad.norm())
            for key, grad in to_published(grads).items()
            if grad.is_floating_point()
        }
    )
    selected, frames = case.nopad['selected'], case.nopad['frames']
    add('infer/query', selected.query[0])
    logits = case.nopad['preds'].logits[-1, 0]
    add('infer/scores', logits.sigmoid().mean(0).amax(-1))
    masks = np.stack([frame.masks[0].numpy() for frame in frames])
    record['infer/mask_shape'] = masks.shape
    record['infer/mask_bits'] = np.packbits(masks)
    np.savez(path, **record)
