# The tracker of SAM 3, of transformers 5.
propagator = dict(
    type='SAM2Propagator',
    tracker='Sam3TrackerVideo',
    pretrained='facebook/sam3',
)
