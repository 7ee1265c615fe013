# DINOv2: a plain ViT (mmpretrain) under the feature pyramid of ViTDet.
_base_ = './referformer_r50.py'

custom_imports = dict(imports=['mmpretrain.models'])
model = dict(
    backbone=dict(
        _delete_=True,
        type='PaddedBackbone',
        scale=14 / 16,  # patches of 14 pixels become a map at stride 16
        backbone=dict(
            type='mmpretrain.VisionTransformer',
            arch='base',
            img_size=518,
            patch_size=14,
            layer_scale_init_value=1e-5,
            drop_path_rate=0.1,
            out_type='featmap',
            init_cfg=dict(
                type='Pretrained',
                checkpoint='https://download.openmmlab.com/mmpretrain/v1.0/dinov2/vit-base-p14_dinov2-pre_3rdparty_20230426-ba246503.pth',
                prefix='backbone.',
            ),
        ),
        pyramid=dict(
            type='SimpleFeaturePyramid', in_channels=768, out_channels=256
        ),
    ),
    neck=dict(in_channels=[256, 256, 256]),
    pixel_decoder=dict(in_channels=[256, 256, 256, 256]),
)
image_pretrained = 'checkpoints/referformer_dinov2-b_refcoco-pretrain.pth'
