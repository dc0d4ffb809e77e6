"""Random programs of users: a module, a loss, an optimizer and a schedule, as text that runs with graphc and PyTorch.

A program is text so that a failing one can be read, made smaller and pasted. `lib`, `nn`, `F` and `optim` in it are
those of graphc or of PyTorch. Values in it have shapes of numbers and of "b" and "t", which are symbolic; each next one
is drawn from what fits the shape of the value at hand.
"""

from __future__ import annotations

import linecache
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

import graphc as gx

MAX_BATCH, MAX_TIME = 8, 6
VOCABULARY, CLASSES = 7, 4
Shape = tuple[Any, ...]

ACTIVATIONS = (
    "relu", "tanh", "sigmoid", "F.gelu", "F.silu", "F.elu", "F.leaky_relu", "F.softplus", "F.mish", "F.hardswish",
    "F.softsign", "F.logsigmoid", "F.selu", "F.hardtanh", "F.relu6", "sin", "exp", "abs", "square", "F.softshrink",
)  # fmt: skip
FORMULAS = (
    "{h} * 0.5 + 1", "{h} / (1 + {h} * {h})", "lib.where({h} > 0.1, {h}, {h} * 0.3)", "{h}.clamp(-1.0, 1.5)",
    "{h} * lib.sigmoid({h})", "lib.sqrt({h} * {h} + 0.1)", "lib.log(1 + lib.exp({h}))", "lib.log(lib.abs({h}) + 0.5)",
    "{h}.masked_fill({h} < -0.5, -0.5)", "({h} > 0).float() * {h}", "lib.maximum({h}, {h} * {h} - 1)", "1 - {h}",
    "lib.where({h} > 0, lib.sqrt({h}.clamp(0.0, 9.0) + 0.01) - 0.1, {h} * 0)", "{h} - {h}.detach() * 0.5",
    "lib.atan({h})",
)  # fmt: skip
OF_ROWS = (
    "{h}.softmax(-1)", "{h}.log_softmax(-1)", "lib.cumsum({h}, -1)", "{h} - {h}.mean(-1, keepdim=True)", "{h}.flip(-1)",
    "{h} / ({h}.abs().sum(-1, keepdim=True) + 1)", "lib.sort({h}, -1)[0]", "lib.cat([{h}[..., 1:], {h}[..., :1]], -1)",
    "{h} - lib.logsumexp({h}, -1, keepdim=True)", "lib.roll({h}, 2, -1)", "F.normalize({h}, dim=-1)",
    "{h} * {h}.amax(-1, keepdim=True)", "lib.stack([{h}, -{h}], 0).sum(0) + {h}",
    "{h} / ({h}.std(-1, keepdim=True) + 1)",
    "lib.einsum('...i,...j->...i', {h}, {h}.tanh())", "{h}.unsqueeze(-1).expand(*{h}.shape, 3).mean(-1)",
)  # fmt: skip
OF_TIMES = (
    "lib.cumsum({h}, 1)", "{h} - {h}.mean(1, keepdim=True)", "{h}.softmax(1)", "{h}.flip(1)", "lib.roll({h}, 1, 1)",
    "{h} + {h}.amax(1, keepdim=True)", "lib.cat([{h}[:, :1] * 0, {h}[:, :-1]], 1)", "{h} * {h}[:, -1:]",
    "lib.cumsum({h}, 1) / (1 + lib.cumsum({h} * {h}, 1))", "{h} + lib.sort({h}, 1)[0]",
)  # fmt: skip
TO_ONE_TIME = ("mean(1)", "sum(1)", "amax(1)", "logsumexp(1)")
LOSSES = {
    "classes": (
        "return F.cross_entropy(output, target)",
        "return F.cross_entropy(output, target, label_smoothing=0.1)",
        "return F.nll_loss(lib.log(output.softmax(1)), target)",
        "return -(F.one_hot(target, 4) * output.log_softmax(-1)).sum(1).mean()",
        "return F.multi_margin_loss(output, target)",
        "return F.cross_entropy(output, target, reduction='sum') / 5",
    ),
    "numbers": (
        "return F.mse_loss(output, target)",
        "return F.l1_loss(output, target)",
        "return F.smooth_l1_loss(output, target)",
        "return F.huber_loss(output, target, delta=0.5)",
        "return F.binary_cross_entropy_with_logits(output, target.sigmoid())",
        "return ((output - target) ** 2).sum(1).sqrt().mean()",
        "return F.kl_div(output.log_softmax(1), target.softmax(1), reduction='batchmean')",
        "return F.poisson_nll_loss(output.clamp(-3.0, 3.0), target.abs())",
        "return lib.log(lib.cosh(output - target)).mean()",
    ),
}
# Their eps are so large that rounding of a gradient which would be 0 does not become a step.
OPTIMIZERS = (
    "SGD(p, lr=0.05)", "SGD(p, lr=0.05, momentum=0.9)", "SGD(p, lr=0.05, momentum=0.8, nesterov=True)",
    "SGD(p, lr=0.05, weight_decay=0.1)", "Adam(p, lr=0.01, eps=1e-2)", "AdamW(p, lr=0.01, eps=1e-2)",
    "Adam(p, lr=0.01, eps=1e-2, amsgrad=True, weight_decay=0.1)", "RMSprop(p, lr=0.01, eps=1e-2, momentum=0.5)",
    "Adagrad(p, lr=0.05, eps=1e-2)", "Adadelta(p, lr=0.5, eps=1e-2)", "Adamax(p, lr=0.01, eps=1e-2)",
    "NAdam(p, lr=0.01, eps=1e-2)", "RAdam(p, lr=0.01, eps=1e-2)", "RMSprop(p, lr=0.01, eps=1e-2, centered=True)",
    "SGD([dict(params=p[:1], lr=0.1), dict(params=p[1:])], lr=0.02, momentum=0.5)",
)  # fmt: skip
SCHEDULES = ("StepLR(o, 1, gamma=0.5)", "CosineAnnealingLR(o, 5)", "LambdaLR(o, lambda n: 1 / (1 + n))")


@dataclass(frozen=True)
class Program:
    """A program and what it is called with.

    shape       of x, "b" and "t" in it are symbolic
    of_classes  whether targets are labels; else they are numbers, [batch, 4]
    settings    of gx.train_step
    scale       of the numbers in x
    """

    seed: int
    text: str
    shape: Shape
    dtype: str
    of_classes: bool
    settings: dict[str, Any]
    scale: float

    @property
    def drops(self) -> bool:
        """Whether it draws random numbers in training."""
        return "Dropout" in self.text

    @property
    def types(self) -> dict[str, Any]:
        dims = {"b": gx.dim("batch", max=MAX_BATCH), "t": gx.dim("time", max=MAX_TIME)}
        x = getattr(gx, self.dtype)[tuple(dims.get(extent, extent) for extent in self.shape)]
        return {"x": x, "y": gx.i64[dims["b"]] if self.of_classes else gx.f32[dims["b"], CLASSES]}

    def parts(self, lib: Any, nn: Any, functional: Any, optim: Any) -> SimpleNamespace:
        """What the text defines, with one library or another."""
        name = f"model_{self.seed}.py"
        linecache.cache[name] = len(self.text), None, self.text.splitlines(keepends=True), name
        known = {"lib": lib, "nn": nn, "F": functional, "optim": optim, "__name__": f"model_{self.seed}"}
        exec(compile(self.text, name, "exec"), known)
        return SimpleNamespace(**known)

    def ours(self) -> SimpleNamespace:
        """A net with graphc, its optimizer, its schedule and its loss; the same initial values every time."""
        gx.manual_seed(self.seed)
        parts = self.parts(gx, gx.nn, gx.nn.functional, gx.optim)
        net = parts.Net()
        optimizer = parts.optimizer([*net.parameters()])
        return SimpleNamespace(net=net, loss=parts.loss, optimizer=optimizer, schedule=parts.schedule(optimizer))

    def batch(self, rows: int, time: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Arrays of a batch; those of odd seeds have zeros in them, of which ties come."""
        rng = np.random.default_rng((self.seed, rows, time, seed))
        shape = [{"b": rows, "t": time}.get(extent, extent) for extent in self.shape]
        floats, words = (rng.normal(size=shape) * self.scale).astype(np.float32), rng.integers(0, VOCABULARY, shape)
        if seed % 2:
            floats[rng.random(shape) < 0.3] = 0
        labels, numbers = rng.integers(0, CLASSES, rows), rng.normal(size=(rows, CLASSES)).astype(np.float32)
        return (floats if self.dtype == "f32" else words), (labels if self.of_classes else numbers)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Of batches: rows and times, one row and the most among them."""
        times = [MAX_TIME, 2, 5, 3] if "t" in self.shape else [0] * 4
        return [*zip([5, 1, MAX_BATCH, 3], times, strict=True)]


@dataclass
class Draft:
    """A module that is being written, and the value it has come to."""

    random: random.Random
    shape: Shape
    parts: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    value: str = "x"
    count: int = 0

    def part(self, expression: str) -> str:
        name = f"part{len(self.parts)}"
        self.parts.append(f"self.{name} = {expression}")
        return f"self.{name}"

    def let(self, expression: str, shape: Shape | None = None) -> None:
        """The next value, of the same shape if none is given."""
        self.count += 1
        self.lines.append(f"h{self.count} = {expression}")
        self.value, self.shape = f"h{self.count}", self.shape if shape is None else shape

    def layer(self, expression: str, shape: Shape | None = None, call: str = "{part}({h})") -> None:
        self.let(call.format(part=self.part(expression), h=self.value), shape)

    def formula(self, choices: tuple[str, ...]) -> None:
        self.let(self.random.choice(choices).format(h=self.value))


Piece = Callable[[Draft], None]


# -- of any shape


def activation(draft: Draft) -> None:
    name = draft.random.choice(ACTIVATIONS)
    call = f"lib.{name}" if "." not in name else name
    value = f"{draft.value}.clamp(-4.0, 3.0)" if name in ("exp", "square") else draft.value
    draft.let(f"{call}({value})")


def formula(draft: Draft) -> None:
    draft.formula(FORMULAS)


def of_rows(draft: Draft) -> None:
    draft.formula(OF_ROWS)


def dropout(draft: Draft) -> None:
    draft.layer(f"nn.Dropout({draft.random.choice((0.1, 0.5))})")


def gate(draft: Draft) -> None:
    *rest, width = draft.shape
    if width % 2:
        return of_rows(draft)
    kind = draft.random.choice(("F.glu({h}, -1)", "{h}.chunk(2, -1)[0] * {h}.chunk(2, -1)[1].tanh()", "{h}[..., ::2]"))
    draft.let(kind.format(h=draft.value), (*rest, width // 2))


def residual(draft: Draft) -> None:
    """What pieces make of a value is added to it, multiplied with it, or the larger is chosen."""
    before, shape = draft.value, draft.shape
    for _ in range(draft.random.randint(1, 2)):
        draft.random.choice((activation, formula, of_rows, norm, same_width))(draft)
    assert draft.shape == shape
    kind = draft.random.choice(("{a} + {h}", "{a} * {h}", "lib.where({a} > {h}, {a}, {h})", "{a} - 0.5 * {h}"))
    draft.let(kind.format(a=before, h=draft.value))


def same_width(draft: Draft) -> None:
    *_, width = draft.shape
    draft.layer(f"nn.Linear({width}, {width})")


def norm(draft: Draft) -> None:
    width, channels = draft.shape[-1], draft.shape[1]
    kinds = [f"nn.LayerNorm({width})", f"nn.RMSNorm({width})"]
    if len(draft.shape) == 4:
        kinds = [f"nn.BatchNorm2d({channels})", f"nn.GroupNorm(2, {channels})", f"nn.InstanceNorm2d({channels})"]
    elif len(draft.shape) == 2:
        kinds.append(f"nn.BatchNorm1d({width})")
    draft.layer(draft.random.choice(kinds))


def linear(draft: Draft) -> None:
    *rest, width = draft.shape
    new = draft.random.choice((3, 4, 8, 10, 17, 33))
    draft.layer(f"nn.Linear({width}, {new}, bias={draft.random.random() < 0.8})", (*rest, new))


# -- of rows [b, features]


def over_the_batch(draft: Draft) -> None:
    draft.let(f"{draft.value} - {draft.value}.mean(0)")


def bilinear(draft: Draft) -> None:
    _, width = draft.shape
    draft.layer(f"nn.Bilinear({width}, {width}, 6)", ("b", 6), "{part}({h}, {h})")


def as_times(draft: Draft) -> None:
    batch, width = draft.shape
    parts = next((parts for parts in (4, 3, 2) if width % parts == 0), 1)
    draft.let(f"{draft.value}.reshape(-1, {parts}, {width // parts})", (batch, parts, width // parts))


# -- of times [b, times, features]


def recurrent(draft: Draft) -> None:
    batch, times, width = draft.shape
    kind, size = draft.random.choice(("RNN", "GRU", "LSTM")), draft.random.choice((3, 5, 8))
    both = draft.random.random() < 0.3
    text = (
        f"nn.{kind}({width}, {size}, num_layers={draft.random.randint(1, 2)}, batch_first=True, bidirectional={both})"
    )
    draft.layer(text, (batch, times, size * (2 if both else 1)), "{part}({h})[0]")


def attention(draft: Draft) -> None:
    batch, times, width = draft.shape
    if width % 2:
        draft.layer(f"nn.Linear({width}, 8)", (batch, times, 8))
        width = 8
    name = draft.part(f"nn.MultiheadAttention({width}, 2, batch_first=True)")
    draft.let(f"{name}({', '.join([draft.value] * 3)})[0]")


def attention_by_hand(draft: Draft) -> None:
    *_, width = draft.shape
    h, part = draft.value, draft.part(f"nn.Linear({width}, {width})")
    draft.let(f"{h} @ {part}({h}).transpose(1, 2) / {width} ** 0.5", (*draft.shape[:2], draft.shape[1]))
    if draft.random.random() < 0.6:
        mask = f"lib.triu(lib.ones_like({draft.value}), 1) > 0"
        draft.let(f"{draft.value}.masked_fill({mask}, -float('inf'))")
    draft.let(f"{draft.value}.softmax(-1) @ {h}", (*draft.shape[:2], width))


def encoder(draft: Draft) -> None:
    batch, times, _ = draft.shape
    linear_to = draft.part(f"nn.Linear({draft.shape[-1]}, 8)")
    first = draft.random.random() < 0.5
    layer = draft.part(f"nn.TransformerEncoderLayer(8, 2, 12, 0.0, batch_first=True, norm_first={first})")
    draft.let(f"{layer}({linear_to}({draft.value}))", (batch, times, 8))


def over_times(draft: Draft) -> None:
    draft.formula(OF_TIMES)


def differences(draft: Draft) -> None:
    batch, times, width = draft.shape
    if not isinstance(times, int) or times < 3:
        return over_times(draft)
    draft.let(f"{draft.value}[:, 1:] - {draft.value}[:, :-1]", (batch, times - 1, width))


def along_times(draft: Draft) -> None:
    batch, times, width = draft.shape
    new = draft.random.choice((3, 6))
    draft.layer(
        f"nn.Conv1d({width}, {new}, 3, padding=1)", (batch, times, new), "{part}({h}.transpose(1, 2)).transpose(1, 2)"
    )


def one_time(draft: Draft) -> None:
    batch, times, width = draft.shape
    ways = [f".{way}" for way in TO_ONE_TIME] + ["[:, -1]", "[:, 0]"]
    if isinstance(times, int) and draft.random.random() < 0.3:
        return draft.let(f"{draft.value}.flatten(1)", (batch, times * width))
    draft.let(draft.value + draft.random.choice(ways), (batch, width))


# -- of images [b, channels, height, width]


def convolution(draft: Draft) -> None:
    batch, channels, height, width = draft.shape
    new, stride, dilation = draft.random.choice((4, 6)), draft.random.choice((1, 1, 2)), draft.random.choice((1, 1, 2))
    padding, kernel = draft.random.choice((0, 1)), draft.random.choice((1, 2, 3))
    sizes = [(size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1 for size in (height, width)]
    if min(sizes) < 1:
        return activation(draft)
    groups = 2 if channels % 2 == 0 and draft.random.random() < 0.3 else 1
    text = f"nn.Conv2d({channels}, {new}, {kernel}, {stride}, {padding}, {dilation}, {groups})"
    draft.layer(text, (batch, new, *sizes))


def pool(draft: Draft) -> None:
    batch, channels, height, width = draft.shape
    kind = draft.random.choice(("MaxPool2d(2)", "AvgPool2d(2)", "MaxPool2d(3, 1, 1)", "AvgPool2d(3, 1, 1)", "Adaptive"))
    if kind == "Adaptive":
        which = draft.random.choice(("Avg", "Max"))
        return draft.layer(f"nn.Adaptive{which}Pool2d(2)", (batch, channels, 2, 2))
    if min(height, width) < 3:
        return activation(draft)
    sizes = (height, width) if "1, 1" in kind else (height // 2, width // 2)
    draft.layer(f"nn.{kind}", (batch, channels, *sizes))


def larger(draft: Draft) -> None:
    batch, channels, height, width = draft.shape
    if height > 5:
        return pool(draft)
    if draft.random.random() < 0.5:
        return draft.layer("nn.Upsample(scale_factor=2)", (batch, channels, 2 * height, 2 * width))
    text = f"nn.ConvTranspose2d({channels}, 4, 2, stride=2)"
    draft.layer(text, (batch, 4, 2 * height, 2 * width))


def from_image(draft: Draft) -> None:
    batch, channels, height, width = draft.shape
    kind = draft.random.choice(("flatten(1)", "mean((2, 3))", "amax((2, 3))", "times"))
    if kind == "times":
        return draft.let(f"{draft.value}.flatten(2).transpose(1, 2)", (batch, height * width, channels))
    draft.let(f"{draft.value}.{kind}", (batch, channels * height * width if kind == "flatten(1)" else channels))


COMMON: tuple[Piece, ...] = (activation, activation, formula, of_rows, dropout, gate, residual, norm, linear)
PIECES: dict[int, tuple[Piece, ...]] = {
    2: (*COMMON, linear, over_the_batch, bilinear, as_times),
    3: (
        *COMMON, recurrent, recurrent, attention, attention_by_hand, encoder, over_times, differences, along_times,
        one_time,
    ),
    4: (activation, formula, dropout, norm, of_rows, convolution, convolution, pool, pool, larger, from_image),
}  # fmt: skip
STARTS: tuple[tuple[str, Shape], ...] = (
    ("f32", ("b", 6)), ("f32", ("b", 20)), ("f32", ("b", "t", 4)), ("f32", ("b", 5, 6)), ("i64", ("b", "t")),
    ("i64", ("b", 5)), ("f32", ("b", 2, 7, 6)),
)  # fmt: skip


def random_program(seed: int) -> Program:
    """The program of a seed."""
    draw = random.Random(seed)
    dtype, shape = draw.choice(STARTS)
    draft = Draft(draw, shape)
    if dtype == "i64":
        draft.layer(f"nn.Embedding({VOCABULARY}, 6)", (*shape, 6))
    for _ in range(draw.randint(2, 6)):
        draw.choice(PIECES[len(draft.shape)])(draft)
    while len(draft.shape) > 2:
        (from_image if len(draft.shape) == 4 else one_time)(draft)
    draft.layer(f"nn.Linear({draft.shape[-1]}, {CLASSES})", ("b", CLASSES))
    of_classes = draw.random() < 0.5
    settings: dict[str, Any] = {}
    if draw.random() < 0.25:
        settings["max_grad_norm"] = 0.5
    if draw.random() < 0.2:
        settings["accumulate"] = 2
    text = TEXT.format(
        parts="\n        ".join(draft.parts),
        lines="\n        ".join(draft.lines),
        result=draft.value,
        loss=draw.choice(LOSSES["classes" if of_classes else "numbers"]),
        optimizer=draw.choice(OPTIMIZERS),
        schedule=f"optim.lr_scheduler.{draw.choice(SCHEDULES)}",
    )
    return Program(seed, text, shape, dtype, of_classes, settings, draw.choice((1.0, 1.0, 0.01, 10.0)))


TEXT = """\
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        {parts}

    def forward(self, x):
        {lines}
        return {result}


def loss(output, target):
    {loss}


def optimizer(p):
    return optim.{optimizer}


def schedule(o):
    return {schedule}
"""
