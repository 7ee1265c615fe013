_base_ = './referformer_r50.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='VideoSwinTransformer',
        arch='base',
        patch_size=(1, 4, 4),
        window_size=(8, 7, 7),
        drop_path_rate=0.2,
        with_cp=True,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://github.com/SwinTransformer/storage/releases/download/v1.0.4/swin_base_patch244_window877_kinetics600_22k.pth',
        ),
    ),
    neck=dict(in_channels=[256, 512, 1024]),
    pixel_decoder=dict(in_channels=[128, 256, 256, 256]),
)
