# SAM 2.1 of transformers >= 4.56. Without a network, download config.json and
# model.safetensors to checkpoints/facebook/sam2.1-hiera-large/.
propagator = dict(
    type='SAM2Propagator', pretrained='facebook/sam2.1-hiera-large'
)
