"""An index: the training set's projected gradients, preconditioned, on disk and immutable."""
