_base_ = './referformer_vswin-t.py'

model = dict(
    backbone=dict(
        arch='base',
        with_cp=True,
        init_cfg=dict(
            checkpoint='https://github.com/SwinTransformer/storage/releases/download/v1.0.4/swin_base_patch244_window877_kinetics600_22k.pth',
        ),
    ),
    neck=dict(in_channels=[256, 512, 1024]),
    pixel_decoder=dict(in_channels=[128, 256, 256, 256]),
)
image_pretrained = 'checkpoints/referformer_vswin-b_refcoco-pretrain.pth'
