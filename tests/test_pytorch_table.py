"""docs/pytorch.md is what the program finds now, and lacks nothing that was asked for; the program sees differences."""

from __future__ import annotations

import ast
import inspect

import pytest
import pytorch_cases
import pytorch_table

import graphc as gx

# What graphc set out to have of PyTorch, and graphc's own. What is checked by numbers from PyTorch:
DEMANDED = """
torch.add torch.sub torch.mul torch.div torch.floor_divide torch.remainder torch.fmod torch.neg torch.eq torch.ne
torch.lt torch.le torch.gt torch.ge torch.logical_and torch.logical_or torch.logical_xor torch.logical_not
torch.bitwise_and torch.bitwise_or torch.bitwise_xor torch.bitwise_not torch.Tensor.__add__ torch.Tensor.__sub__
torch.Tensor.__mul__ torch.Tensor.__truediv__ torch.Tensor.__floordiv__ torch.Tensor.__mod__ torch.Tensor.__pow__
torch.Tensor.__matmul__ torch.Tensor.__neg__ torch.Tensor.__lt__ torch.Tensor.__le__ torch.Tensor.__gt__
torch.Tensor.__ge__ torch.Tensor.__eq__ torch.Tensor.__ne__ torch.Tensor.__and__ torch.Tensor.__or__
torch.Tensor.__xor__ torch.Tensor.__invert__
torch.exp torch.exp2 torch.expm1 torch.log torch.log2 torch.log10 torch.log1p torch.sin torch.cos torch.tan torch.asin
torch.acos torch.atan torch.atan2 torch.sinh torch.cosh torch.tanh torch.asinh torch.acosh torch.atanh torch.erf
torch.sigmoid torch.square torch.reciprocal torch.floor torch.ceil torch.round torch.trunc torch.nn.functional.relu
torch.nn.functional.softplus torch.nn.functional.silu torch.nn.functional.gelu torch.nn.functional.leaky_relu
torch.nn.functional.elu torch.nn.functional.selu torch.nn.functional.celu torch.nn.functional.hardtanh
torch.nn.functional.mish torch.nn.functional.softmax torch.nn.functional.log_softmax
torch.clip torch.where torch.maximum torch.minimum torch.sign torch.abs torch.pow torch.sqrt torch.rsqrt
torch.sum torch.mean torch.prod torch.max torch.min torch.argmax torch.argmin torch.var torch.std torch.norm
torch.logsumexp torch.cumsum torch.any torch.all
torch.matmul torch.einsum torch.outer torch.dot torch.tril torch.triu
torch.reshape torch.transpose torch.permute torch.Tensor.expand torch.squeeze torch.unsqueeze torch.flatten
torch.Tensor.__getitem__ torch.masked_fill torch.gather torch.scatter_add torch.take torch.nn.functional.one_hot
torch.concat torch.stack torch.split torch.nn.functional.pad torch.flip torch.roll torch.Tensor.repeat torch.tile
torch.topk torch.sort
torch.arange torch.linspace torch.eye torch.zeros torch.ones torch.full torch.zeros_like torch.ones_like torch.full_like
torch.Tensor.to torch.Tensor.float torch.Tensor.double torch.Tensor.int torch.Tensor.long torch.Tensor.bool
torch.Tensor.byte
torch.nn.Linear torch.nn.Bilinear torch.nn.Embedding torch.nn.Conv1d torch.nn.Conv2d torch.nn.ConvTranspose1d
torch.nn.ConvTranspose2d torch.nn.MaxPool1d torch.nn.MaxPool2d torch.nn.AvgPool1d torch.nn.AvgPool2d
torch.nn.AdaptiveAvgPool1d torch.nn.AdaptiveAvgPool2d torch.nn.BatchNorm1d torch.nn.BatchNorm2d torch.nn.LayerNorm
torch.nn.GroupNorm torch.nn.RMSNorm torch.nn.Dropout torch.nn.RNN torch.nn.LSTM torch.nn.GRU torch.nn.MultiheadAttention
torch.nn.functional.scaled_dot_product_attention torch.nn.TransformerEncoderLayer torch.nn.Identity torch.nn.Upsample
torch.nn.PixelShuffle
torch.nn.MSELoss torch.nn.L1Loss torch.nn.SmoothL1Loss torch.nn.HuberLoss torch.nn.CrossEntropyLoss torch.nn.NLLLoss
torch.nn.BCELoss torch.nn.BCEWithLogitsLoss torch.nn.KLDivLoss torch.nn.HingeEmbeddingLoss torch.nn.MultiMarginLoss
torch.nn.CosineEmbeddingLoss torch.nn.functional.mse_loss torch.nn.functional.l1_loss
torch.nn.functional.smooth_l1_loss torch.nn.functional.huber_loss torch.nn.functional.cross_entropy
torch.nn.functional.nll_loss torch.nn.functional.binary_cross_entropy
torch.nn.functional.binary_cross_entropy_with_logits torch.nn.functional.kl_div
torch.nn.functional.hinge_embedding_loss torch.nn.functional.multi_margin_loss
torch.nn.functional.cosine_embedding_loss
torch.optim.SGD torch.optim.Adam torch.optim.AdamW torch.optim.RMSprop torch.optim.Adagrad torch.optim.Adadelta
torch.optim.NAdam torch.nn.utils.clip_grad_norm_ torch.nn.utils.clip_grad_value_
torch.optim.lr_scheduler.StepLR torch.optim.lr_scheduler.MultiStepLR torch.optim.lr_scheduler.ExponentialLR
torch.optim.lr_scheduler.CosineAnnealingLR torch.optim.lr_scheduler.OneCycleLR torch.optim.lr_scheduler.LinearLR
torch.optim.lr_scheduler.ReduceLROnPlateau
torch.Tensor.detach
"""
# and what cannot be: random numbers, settings, and what PyTorch has no name for.
DEMANDED_OTHERWISE = """
torch.rand torch.randn torch.normal torch.bernoulli torch.randperm gx.uniform gx.permutation
torch.float32 torch.float64 torch.int32 torch.int64 torch.uint8 torch.bool
torch.nn.init.xavier_uniform_ torch.nn.init.xavier_normal_ torch.nn.init.kaiming_uniform_ torch.nn.init.kaiming_normal_
torch.optim.Optimizer.add_param_group torch.optim.Optimizer.state_dict torch.nn.Module.state_dict
torch.nn.Module.load_state_dict gx.nn.HingeLoss gx.optim.Lion gx.optim.Accumulate
gx.accuracy gx.top_k_accuracy gx.confusion_matrix gx.precision_score gx.recall_score gx.f1_score gx.r2_score
gx.mean_absolute_error
torch.autograd.grad gx.stop_gradient gx.custom_vjp torch.func.jvp gx.hvp gx.per_sample_gradient_norms gx.scan gx.cond
"""


@pytest.fixture(scope="module")
def found():
    """Rows by all names that stand in them."""
    rows = [*pytorch_table.rows(), *pytorch_table.own_rows()]
    return {name: row for row in rows for name in row.names or [row.place]}


def test_page_is_up_to_date(golden):
    golden("../../graphc/docs/pytorch.md", pytorch_table.table())


def test_nothing_demanded_is_missing(found):
    demanded = (DEMANDED + DEMANDED_OTHERWISE).split()
    assert not [name for name in demanded if not found[name].checked]


def test_what_has_numbers_is_checked_against_pytorchs(found):
    assert not [name for name in DEMANDED.split() if ": `" not in found[name].checked]  # a file: `a case`


def test_whatever_is_here_is_checked(found):
    assert not [name for name, row in found.items() if row.place and not row.checked]


@pytest.mark.parametrize(
    ("theirs", "own", "wanted"),
    [
        ("input, other, /, *, alpha=1", lambda a, b, /, *, alpha=1: 0, []),
        ("input, other, /, *, alpha=1", lambda a, b, /: 0, ["no `alpha`"]),
        ("input, other, /", lambda a: 0, ["no `other`"]),
        ("input, /, dim, keepdim=False", lambda x, axis, keepdims=False, *, dim=None, keepdim=False: 0, []),
        ("input, /, dim, keep=False", lambda x, axis, *, keep=False: 0, ["`dim` by position", "`keep` by keyword"]),
        ("p=0.5, inner=True", lambda inner=True, p=0.5: 0, ["`p` by keyword", "`inner` by keyword"]),
        ("p=0.5, mode='sum'", lambda p=0.25, mode="mean": 0, ["`p` is 0.25, not 0.5", "`mode` is 'mean', not 'sum'"]),
        ("size=None", lambda size: 0, ["`size` must be given"]),
        ("self, /, *size", lambda x, *shape: 0, []),
        ("*, eps=1e-05", lambda **settings: 0, []),
    ],
)  # fmt: skip
def test_arguments_are_compared(theirs, own, wanted):
    given = inspect.signature(eval(f"lambda {theirs}: 0")).parameters.values()
    assert list(pytorch_table.unlike(list(given), list(inspect.signature(own).parameters.values()))) == wanted


def test_cases_are_read():
    expression = "F.relu(a @ b)[1:] + filled(nn.Linear(2, 3))(c.clamp(0, 1)) + mse_loss(a, absent(b))"
    things = list(pytorch_cases.things_in(ast.parse(expression)))
    methods = [gx.Tensor.__add__, gx.Tensor.__getitem__, gx.Tensor.__matmul__, gx.Tensor.clamp]
    assert all(thing in things for thing in [gx.relu, gx.nn.Linear, gx.mse_loss, *methods])
    assert gx.softmax not in things and gx.Tensor.__sub__ not in things


def test_expected_errors_are_no_checks():
    text = "with pytest.raises(ValueError):\n    gx.arange(0, 1, 0)\ngx.relu(x)"
    tree = pytorch_cases.WithoutErrors().visit(ast.parse(text))
    assert list(pytorch_cases.things_in(tree, methods=False)) == [gx.relu]
