"""Optimisers on dictionaries of arrays: `params = optimizer.step(params, grads)`; and schedules of learning rates.

They are the engine's, which a server's training runs use too: the same steps, to the bit, wherever they are made.
"""

from sumgrad_engine.optim import (
    SGD,
    Adam,
    AdamW,
    CosineDecay,
    ExponentialDecay,
    LinearDecay,
    Optimizer,
    Schedule,
    StepDecay,
)

__all__ = ["SGD", "Adam", "AdamW", "CosineDecay", "ExponentialDecay", "LinearDecay", "Optimizer", "Schedule", "StepDecay"]
