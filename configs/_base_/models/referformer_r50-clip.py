# The text encoder of CLIP; the sentence is its end token.
_base_ = './referformer_r50.py'

model = dict(
    text_encoder=dict(pretrained='openai/clip-vit-base-patch32'),
)
image_pretrained = 'checkpoints/referformer_r50-clip_refcoco-pretrain.pth'
