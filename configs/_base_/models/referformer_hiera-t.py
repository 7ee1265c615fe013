# Hiera, as SAM 2 trained it (timm).
_base_ = './referformer_r50.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='PaddedBackbone',
        backbone=dict(
            type='TimmBackbone',
            model_name='sam2_hiera_tiny.fb_r896_2pt1',
            pretrained=True,
            drop_path_rate=0.1,
        ),
    ),
    neck=dict(in_channels=[192, 384, 768]),
    pixel_decoder=dict(in_channels=[96, 256, 256, 256]),
)
image_pretrained = 'checkpoints/referformer_hiera-t_refcoco-pretrain.pth'
