# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Draw predictions on test videos: one mosaic video and a still picture.

Example:
    python tools/analysis_tools/draw_overlays.py CONFIG CHECKPOINT --out a.mp4
"""

import argparse
from pathlib import Path

from referformer.utils.cli import (
    add_common_options,
    positive,
    prepare_output,
    run,
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description='Draw predictions on test videos.'
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--out', type=Path, required=True, help='.mp4 to write'
    )
    parser.add_argument('--videos', type=positive, default=4, help='rows')
    parser.add_argument(
        '--expressions',
        type=positive,
        default=3,
        help='columns: most objects of a video',
    )
    parser.add_argument(
        '--scale', type=positive, default=3, help='how many times to enlarge'
    )
    parser.add_argument('--fps', type=float, default=4.0)
    add_common_options(parser)
    return parser.parse_args(argv)


def choose_clips(
    items: list[dict], videos: int, expressions: int
) -> list[list[int]]:
    """Pick videos spread over the set, one expression for each object.

    Args:
        items (list[dict]): Items of the dataset, in order.
        videos (int): Rows wanted.
        expressions (int): Columns wanted; there are fewer where no video
            has as many objects.

    Returns:
        list[list[int]]: Indices of items, rows of equal length, a row per
        video.
    """
    rows: dict[str, dict[str, int]] = {}
    for index, item in enumerate(items):
        row = rows.setdefault(item['video_id'], {})
        row.setdefault(item['obj_id'] or item['exp_id'], index)
    columns = min(expressions, max(map(len, rows.values()), default=0))
    full = [
        list(row.values())[:columns]
        for row in rows.values()
        if len(row) >= columns
    ]
    step = max(1, len(full) // videos)
    return full[::step][:videos]


def main(argv: list[str] | None = None) -> None:
    """Predict the chosen clips and write the mosaic."""
    args = parse_args(argv)

    import cv2
    import mmcv
    import numpy as np
    import torch
    from mmengine.dataset import pseudo_collate
    from mmengine.registry import init_default_scope

    from referformer.apis import init_model
    from referformer.media.pictures import write_image
    from referformer.media.writer import write_video
    from referformer.registry import DATASETS, VISUALIZERS
    from referformer.utils.launch import load_config

    prepare_output(args.out, '--out')
    cfg = load_config(args.config, args.cfg_options, args.work_dir, 'none')
    init_default_scope(cfg.default_scope)
    model = init_model(cfg, args.checkpoint, 'cpu')
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    visualizer = VISUALIZERS.build(dict(cfg.visualizer, vis_backends=None))
    items = [dataset.get_data_info(i) for i in range(len(dataset))]
    chosen = choose_clips(items, args.videos, args.expressions)
    rows = []
    for indices in chosen:
        row = []
        for index in indices:
            batch = pseudo_collate([dataset[index]])
            for frame in batch['data_samples'][0].video_data_samples:
                # masks are cut at the size they are drawn in
                height, width = frame.ori_shape[:2]
                frame.set_metainfo(
                    dict(ori_shape=(height * args.scale, width * args.scale))
                )
            with torch.no_grad():
                clip = model.test_step(batch)[0]
            images = [
                cv2.resize(
                    mmcv.imread(frame.img_path, channel_order='rgb'),
                    frame.ori_shape[::-1],
                    interpolation=cv2.INTER_CUBIC,
                )
                for frame in clip.video_data_samples
            ]
            row.append(np.stack(visualizer.draw_clip(images, clip)))
        rows.append(row)
    # captions of several lines differ in height: pad below
    height = max(clip.shape[1] for row in rows for clip in row)
    length = min(clip.shape[0] for row in rows for clip in row)
    padded = [
        [
            np.pad(
                clip[:length],
                ((0, 0), (0, height - clip.shape[1] + 6), (0, 6), (0, 0)),
            )
            for clip in row
        ]
        for row in rows
    ]
    mosaic = np.concatenate([np.concatenate(row, 2) for row in padded], 1)
    codec = write_video(args.out, mosaic, args.fps)
    still = args.out.with_suffix('.png')
    write_image(still, mosaic[length // 2])
    print(f'{args.out} ({codec}, {length} frames) and {still}')


if __name__ == '__main__':
    run(main)
