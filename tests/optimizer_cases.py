"""Optimizers and schedules in the spelling that graphc.optim and torch.optim share.

Each case is a function of that module and of what the optimizer or the schedule is made from.
"""

from __future__ import annotations

import math

STEPS, EPOCHS = 20, 51
MOMENTS = (0, 1, 4, 9, 19)  # the steps after which weights are stored

OPTIMIZERS = {
    "sgd": lambda optim, p: optim.SGD(p),
    "sgd momentum": lambda optim, p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "sgd nesterov": lambda optim, p: optim.SGD(p, 0.1, 0.8, 0, 0.01, True),
    "sgd dampening": lambda optim, p: optim.SGD(p, 0.1, 0.9, 0.5, maximize=True),
    "adam": lambda optim, p: optim.Adam(p),
    "adam settings": lambda optim, p: optim.Adam(p, 0.02, (0.8, 0.95), 1e-3, 0.1, maximize=True),
    "adam amsgrad": lambda optim, p: optim.Adam(p, 0.05, (0.5, 0.6), amsgrad=True),
    "adam without memory": lambda optim, p: optim.Adam(p, 0.01, (0.0, 0.0), 0.1),
    "adam decoupled": lambda optim, p: optim.Adam(p, 0.01, weight_decay=0.1, decoupled_weight_decay=True),
    "adamw": lambda optim, p: optim.AdamW(p, 0.01),
    "adamw amsgrad": lambda optim, p: optim.AdamW(p, 0.02, (0.5, 0.6), 1e-7, 0.1, True, maximize=True),
    "nadam": lambda optim, p: optim.NAdam(p),
    "nadam settings": lambda optim, p: optim.NAdam(p, 0.01, (0.8, 0.99), 1e-6, 0.1, 0.1, maximize=True),
    "nadam decoupled": lambda optim, p: optim.NAdam(p, 0.01, weight_decay=0.1, decoupled_weight_decay=True),
    "radam": lambda optim, p: optim.RAdam(p, 0.01),
    "radam settings": lambda optim, p: optim.RAdam(p, 0.01, (0.8, 0.9), 1e-6, 0.1, maximize=True),
    "radam decoupled": lambda optim, p: optim.RAdam(p, 0.01, weight_decay=0.1, decoupled_weight_decay=True),
    "adamax": lambda optim, p: optim.Adamax(p),
    "adamax settings": lambda optim, p: optim.Adamax(p, 0.01, (0.8, 0.9), 1e-4, 0.1, maximize=True),
    "adagrad": lambda optim, p: optim.Adagrad(p),
    "adagrad settings": lambda optim, p: optim.Adagrad(p, 0.1, 0.1, 0.1, 0.5, 1e-3, maximize=True),
    "rmsprop": lambda optim, p: optim.RMSprop(p),
    "rmsprop settings": lambda optim, p: optim.RMSprop(p, 0.01, 0.9, 1e-3, 0.1, maximize=True),
    "rmsprop momentum": lambda optim, p: optim.RMSprop(p, 0.01, 0.95, momentum=0.9),
    "rmsprop centered": lambda optim, p: optim.RMSprop(p, 0.01, 0.9, 1e-2, 0, 0.5, True),
    "adadelta": lambda optim, p: optim.Adadelta(p),
    "adadelta settings": lambda optim, p: optim.Adadelta(p, 0.5, 0.8, 1e-3, 0.1, maximize=True),
    "groups": lambda optim, p: optim.SGD(
        [{"params": p[:1]}, {"params": p[1:], "lr": 0.3, "momentum": 0.7, "weight_decay": 0.0}],
        lr=0.1,
        weight_decay=0.05,
    ),
}

SCHEDULES = {
    "lambda": lambda s, o: s.LambdaLR(o, lambda epoch: 0.95**epoch),
    "lambda each": lambda s, o: s.LambdaLR(o, [lambda epoch: 1 / (1 + epoch), lambda epoch: epoch / 50]),
    "multiplicative": lambda s, o: s.MultiplicativeLR(o, lambda epoch: 1 - 0.5 / epoch),
    "step": lambda s, o: s.StepLR(o, 7),
    "step gamma": lambda s, o: s.StepLR(o, step_size=10, gamma=0.5),
    "multistep": lambda s, o: s.MultiStepLR(o, [30, 3, 12, 12], gamma=0.3),
    "constant": lambda s, o: s.ConstantLR(o),
    "constant settings": lambda s, o: s.ConstantLR(o, 0.25, 20),
    "linear": lambda s, o: s.LinearLR(o),
    "linear settings": lambda s, o: s.LinearLR(o, 1.0, 0.1, 40),
    "linear to nothing": lambda s, o: s.LinearLR(o, 0.5, 0.0, 30),
    "exponential": lambda s, o: s.ExponentialLR(o, 0.9),
    "polynomial": lambda s, o: s.PolynomialLR(o),
    "polynomial settings": lambda s, o: s.PolynomialLR(o, 40, 2.5),
    "cosine": lambda s, o: s.CosineAnnealingLR(o, 50),
    "cosine settings": lambda s, o: s.CosineAnnealingLR(o, T_max=8, eta_min=0.01),
    "cosine of one": lambda s, o: s.CosineAnnealingLR(o, 1),
    "warm restarts": lambda s, o: s.CosineAnnealingWarmRestarts(o, 10),
    "warm restarts settings": lambda s, o: s.CosineAnnealingWarmRestarts(o, 3, 2, 0.01),
    "one cycle": lambda s, o: s.OneCycleLR(o, 0.5, total_steps=50),
    "one cycle settings": lambda s, o: s.OneCycleLR(
        o, [0.5, 1.0], epochs=5, steps_per_epoch=10, pct_start=0.4, anneal_strategy="linear", base_momentum=0.7,
        max_momentum=[0.9, 0.99], div_factor=10.0, final_div_factor=100.0,
    ),
    "one cycle three phases": lambda s, o: s.OneCycleLR(o, 0.5, 50, three_phase=True),
    "one cycle without momentum": lambda s, o: s.OneCycleLR(o, 0.5, 60, cycle_momentum=False, pct_start=0.0),
    "cyclic": lambda s, o: s.CyclicLR(o, 0.01, 0.1, 6),
    "cyclic triangular2": lambda s, o: s.CyclicLR(o, 0.01, [0.1, 0.2], 4, 8, mode="triangular2"),
    "cyclic range": lambda s, o: s.CyclicLR(o, 0.01, 0.1, 5, mode="exp_range", gamma=0.95, base_momentum=0.5),
    "cyclic function": lambda s, o: s.CyclicLR(
        o, 0.01, 0.1, 5, scale_fn=lambda x: 1 / x, scale_mode="cycle", cycle_momentum=False
    ),
    "sequential": lambda s, o: s.SequentialLR(
        o, [s.LinearLR(o, 0.1, total_iters=8), s.StepLR(o, 5, 0.5), s.CosineAnnealingLR(o, 20)], [8, 25]
    ),
    "sequential constant": lambda s, o: s.SequentialLR(o, [s.ConstantLR(o), s.ExponentialLR(o, 0.9)], milestones=[20]),
    "chained": lambda s, o: s.ChainedScheduler([s.ConstantLR(o, 0.1, 20), s.ExponentialLR(o, 0.9)]),
    "chained cosine": lambda s, o: s.ChainedScheduler([s.CosineAnnealingLR(o, 20, 0.001), s.StepLR(o, 15)], o),
}  # fmt: skip

PLATEAUS = {
    "plateau": lambda s, o: s.ReduceLROnPlateau(o),
    "plateau settings": lambda s, o: s.ReduceLROnPlateau(o, "max", 0.5, 2, 0.05, "abs", 3, [1e-3, 0.02]),
    "plateau max": lambda s, o: s.ReduceLROnPlateau(o, mode="max", patience=1, threshold=0.2, eps=0.01),
    "plateau min": lambda s, o: s.ReduceLROnPlateau(o, factor=0.3, patience=0, threshold_mode="abs", threshold=0.1),
}

FIGURES = [2 + math.sin(3 * epoch) / (1 + epoch / 20) - epoch / 50 for epoch in range(EPOCHS)]
