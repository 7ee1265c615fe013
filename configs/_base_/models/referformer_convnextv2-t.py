# ConvNeXt V2, pre-trained as a masked autoencoder (mmpretrain).
_base_ = './referformer_r50.py'

custom_imports = dict(imports=['mmpretrain.models'])
model = dict(
    backbone=dict(
        _delete_=True,
        type='PaddedBackbone',
        backbone=dict(
            type='mmpretrain.ConvNeXt',
            arch='tiny',
            use_grn=True,
            layer_scale_init_value=0.0,
            drop_path_rate=0.2,
            out_indices=(0, 1, 2, 3),
            gap_before_final_norm=False,
            init_cfg=dict(
                type='Pretrained',
                checkpoint='https://download.openmmlab.com/mmclassification/v0/convnext-v2/convnext-v2-tiny_fcmae-in21k-pre_3rdparty_in1k_20230104-8cc8b8f2.pth',
                prefix='backbone.',
            ),
        ),
    ),
    neck=dict(in_channels=[192, 384, 768]),
    pixel_decoder=dict(in_channels=[96, 256, 256, 256]),
)
image_pretrained = 'checkpoints/referformer_convnextv2-t_refcoco-pretrain.pth'
