# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Draw what a model is trained on: clips after all transforms."""

import argparse
from pathlib import Path

import cv2
import numpy as np
from mmdet.structures import TrackDataSample
from mmengine.registry import init_default_scope

from referformer.errors import ConfigError
from referformer.registry import DATASETS
from referformer.structures import split_expressions
from referformer.utils.cli import (
    add_cfg_options,
    add_former_name,
    prepare_output,
    run,
)
from referformer.utils.launch import explain_config_errors, load_config

MASK_BGR = (60, 60, 240)
BOX_BGR = (60, 220, 250)
HEADER = 26


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--out', required=True, help='folder for the PNGs')
    parser.add_argument(
        '--num', type=int, default=10, help='number of clips (default 10)'
    )
    split = parser.add_argument(
        '--split',
        type=lambda name: name.removesuffix('_dataloader'),
        default='train',
        choices=['train', 'val', 'test'],
        help='whose dataset to draw (default train)',
    )
    add_former_name(parser, '--loader', split)
    parser.add_argument(
        '--scale', type=float, default=1.0, help='enlarge the frames'
    )
    add_cfg_options(parser)
    return parser.parse_args(argv)


def draw_clip(
    inputs: np.ndarray, sample: TrackDataSample, scale: float = 1.0
) -> np.ndarray:
    """Draw a clip as a strip of frames under its expression.

    Args:
        inputs: Frames, uint8, BGR, shape (T, 3, H, W).
        sample: What goes with them.
        scale: Enlargement of the frames.

    Returns:
        BGR image, uint8.
    """
    panels = []
    for image, frame in zip(inputs, sample.video_data_samples, strict=True):
        panel = np.ascontiguousarray(image.transpose(1, 2, 0))
        truth = frame.get('gt_instances')
        if truth is not None and len(truth):
            # In test pipelines the truth has the original size.
            height, width = panel.shape[:2]
            mask = cv2.resize(
                truth.masks.to_ndarray()[0].astype(np.uint8),
                (width, height),
                interpolation=cv2.INTER_NEAREST,
            ).astype(bool)
            panel[mask] = panel[mask] * 0.5 + np.array(MASK_BGR) * 0.5
            # A video with all its expressions has boxes of images only.
            boxes = truth.get('bboxes')
            box = sample.get('ori_bbox') if boxes is None else boxes[0]
            if box is not None:
                shape = [truth.masks.width, truth.masks.height]
                ratio = np.array([width, height] * 2) / (shape * 2)
                x1, y1, x2, y2 = (
                    (np.asarray(box) * ratio).round().astype(int).tolist()
                )
                cv2.rectangle(panel, (x1, y1), (x2, y2), BOX_BGR, 1)
        panel = cv2.resize(
            panel, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST
        )
        label = frame.get('frame_name', '')
        cv2.putText(
            panel, label, (4, 14), 0, 0.4, (255, 255, 255), 1, cv2.LINE_AA
        )
        panels.append(cv2.copyMakeBorder(panel, 0, 0, 0, 2, 0))
    strip = np.concatenate(panels, axis=1)
    header = np.zeros((HEADER, strip.shape[1], 3), np.uint8)
    source = ' '.join(
        str(sample.get(key)) for key in ('subset', 'video_id') if key in sample
    )
    facts = f'{sample.get("text")}   [{source}]'
    cv2.putText(
        header, facts, (6, 18), 0, 0.5, (255, 255, 255), 1, cv2.LINE_AA
    )
    return np.concatenate([header, strip])


def main() -> None:
    """Draw clips of a config's dataset."""
    args = parse_args()
    cfg = load_config(args.config, args.cfg_options)
    out = Path(args.out)
    prepare_output(out / '0000.png', '--out')
    init_default_scope(cfg.get('default_scope', 'referformer'))
    loader = f'{args.split}_dataloader'
    if cfg.get(loader) is None:
        raise ConfigError(f'{args.config} has no {loader}.')
    with explain_config_errors(args.config, cfg):
        dataset = DATASETS.build(cfg[loader].dataset)
    count = min(args.num, len(dataset))
    # Spread over the dataset: neighbours show the same video.
    for number, index in enumerate(
        np.linspace(0, len(dataset) - 1, count).astype(int)
    ):
        item = dataset[int(index)]
        sample = item['data_samples']
        grouped = 'expressions' in sample
        clips = split_expressions(sample) if grouped else [sample]
        for k, clip in enumerate(clips):
            image = draw_clip(item['inputs'].numpy(), clip, args.scale)
            name = f'{number:04d}-{k:03d}' if grouped else f'{number:04d}'
            cv2.imwrite(str(out / f'{name}.png'), image)
    print(f'Drew {count} of {len(dataset)} items of {loader} in {out}.')


if __name__ == '__main__':
    run(main)
