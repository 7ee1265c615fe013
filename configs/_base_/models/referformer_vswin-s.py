_base_ = './referformer_vswin-t.py'

model = dict(
    backbone=dict(
        arch='small',
        with_cp=True,
        init_cfg=dict(
            checkpoint='https://github.com/SwinTransformer/storage/releases/download/v1.0.4/swin_small_patch244_window877_kinetics400_1k.pth',
        ),
    ),
)
image_pretrained = 'checkpoints/referformer_vswin-s_refcoco-pretrain.pth'
