"""One module per task.  They import torch when they run, not when they are registered."""
