"""One thread a test process: the models here are too small for more, and equal sums need an equal order."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
