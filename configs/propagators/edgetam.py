# EdgeTAM of transformers 5, which needs timm; made for phones.
propagator = dict(
    type='SAM2Propagator',
    tracker='EdgeTamVideo',
    pretrained='yonigozlan/EdgeTAM-hf',
)
