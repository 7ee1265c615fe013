_base_ = './referformer_swin-b.py'

model = dict(
    backbone=dict(
        embed_dims=192,
        num_heads=(6, 12, 24, 48),
        with_cp=True,
        init_cfg=dict(
            checkpoint='https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_large_patch4_window7_224_22k.pth',
        ),
    ),
    neck=dict(in_channels=[384, 768, 1536]),
    pixel_decoder=dict(in_channels=[192, 256, 256, 256]),
)
image_pretrained = 'checkpoints/referformer_swin-l_refcoco-pretrain.pth'
