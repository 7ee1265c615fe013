_base_ = './referformer_r50.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='VideoSwinTransformer',
        arch='tiny',
        patch_size=(1, 4, 4),
        window_size=(8, 7, 7),
        drop_path_rate=0.2,
        with_cp=False,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://github.com/SwinTransformer/storage/releases/download/v1.0.4/swin_tiny_patch244_window877_kinetics400_1k.pth',
        ),
    ),
    neck=dict(in_channels=[192, 384, 768]),
    pixel_decoder=dict(in_channels=[96, 256, 256, 256]),
)
image_pretrained = 'checkpoints/referformer_vswin-t_refcoco-pretrain.pth'
