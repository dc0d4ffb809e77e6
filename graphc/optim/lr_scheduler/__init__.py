"""Learning-rate schedules with PyTorch's names and formulas.

A schedule sets the "lr" of an optimizer's groups, which compiled steps read at every call: nothing is compiled again.
Call `step()` once an epoch, or once a batch for schedules that count batches, after the training step; `last_epoch`
is the number of these calls. The first rates are set as the schedule is made.
"""

from typing import TYPE_CHECKING

from graphc.later import imports_above

if TYPE_CHECKING:
    from graphc.optim.lr_scheduler.combined import ChainedScheduler, SequentialLR
    from graphc.optim.lr_scheduler.curves import (
        ConstantLR,
        CosineAnnealingLR,
        ExponentialLR,
        LambdaLR,
        LinearLR,
        MultiplicativeLR,
        MultiStepLR,
        PolynomialLR,
        StepLR,
    )
    from graphc.optim.lr_scheduler.cycles import CosineAnnealingWarmRestarts, CyclicLR, OneCycleLR
    from graphc.optim.lr_scheduler.plateau import ReduceLROnPlateau
    from graphc.optim.lr_scheduler.scheduler import LRScheduler
else:
    __getattr__, __dir__ = imports_above(__name__)
