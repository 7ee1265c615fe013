"""The published ResNet-50 recipe with another fusion of words and pixels."""

_base_ = '../../../configs/referformer_r50_ytvos-scratch.py'

custom_imports = dict(imports=['projects.example_project.dummy'])

model = dict(fusion=dict(_delete_=True, type='DummyFusion', embed_dims=256))
