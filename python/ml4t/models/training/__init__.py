"""One trainer for every neural model.

================  ========================================================
`neural`          base class of the models that train networks
`loop`            `Phase` and `run`, the training loop
`stopping`        rules: improvement, patience
`checkpoints`     schedule and best states; states as arrays
`callbacks`       log, progress bar, callbacks of the caller
`run_state`       state from which a run resumes with the same bits
`warm_start`      parameters of a former fit, identity of an interrupted one
`device`          device, dtype, generators, array to tensor
`torch_settings`  fixed settings of torch around a call
`initialization`  parameters drawn from an own generator
`noise`           dropout and Gaussian noise from an own generator
`batching`        shuffled minibatches
`optional_torch`  the error without PyTorch
================  ========================================================

Nothing here touches global state of torch or NumPy, or depends on it: every draw comes from a
generator that the caller owns, so that fits in concurrent threads equal fits one after the other.
"""
