"""One trainer for every neural model.

==============  ==========================================================
`requirement`   says what to install when PyTorch is absent (imports no torch)
`ambient`       the caller's settings of torch, put aside around a call
`device`        device, dtype, generators, array to tensor
`initial`       parameters drawn from an own generator
`noise`         dropout and Gaussian noise from an own generator
`batching`      shuffled minibatches
`stopping`      rules as values: what is better, when to stop
`checkpoints`   when to snapshot, and copies of a network's state
`progress`      what a caller hears while training runs
`state`         everything a run needs to go on from where it was
`loop`          `Phase` and `run`
==============  ==========================================================

Nothing here touches global state of torch or NumPy, or depends on it: every draw comes from a
generator that the caller owns, so that fits in concurrent threads equal fits one after the other.
"""
