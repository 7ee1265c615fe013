# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Train a small model of a config for one step and predict, without data.

python tools/misc/check_config.py CONFIG
"""

import argparse

from referformer.utils.cli import add_cfg_options, run


def main(argv: list[str] | None = None) -> None:
    """Print losses, trained parts and the shape of a prediction."""
    parser = argparse.ArgumentParser(
        description='Train a small model of a config for one step, predict.'
    )
    parser.add_argument('config', help='config file')
    add_cfg_options(parser)
    args = parser.parse_args(argv)

    from mmengine.logging import MMLogger

    from referformer.testing import check_channels, try_config
    from referformer.utils.launch import explain_config_errors, load_config

    # mmengine lists every initialised and every frozen parameter
    MMLogger.get_current_instance().setLevel('ERROR')
    cfg = load_config(args.config, args.cfg_options)
    with explain_config_errors(args.config, cfg):
        check_channels(cfg)
        trial = try_config(cfg)
    for name, loss in trial.losses.items():
        print(f'{name:<16} {loss:.4f}')
    print(f'trained parts: {", ".join(sorted(trial.trained))}')
    frame = trial.clip.video_data_samples[0].pred_track_instances
    print(f'masks predicted for a frame: {tuple(frame.masks.shape)}')


if __name__ == '__main__':
    run(main)
