# Along the optical flow: no weights, runs everywhere.
propagator = dict(type='FlowPropagator')
