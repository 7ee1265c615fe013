# Scores the model of A2D-Sentences trained alone, with clips of six frames:
# checkpoints/referformer_vswin-t_a2d-scratch.pth
_base_ = [
    './_base_/models/referformer_vswin-t.py',
    './_base_/datasets/jhmdb.py',
    './_base_/default_runtime.py',
]

model = dict(
    mask_resize='two_step',
    # the published mAP ranks all five queries of an expression
    head=dict(selector=dict(topk=5)),
)
_base_.test_dataloader.dataset.pipeline[1].num_frames = 6
