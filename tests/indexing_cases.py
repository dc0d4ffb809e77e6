"""Products, parts, joins and orders: calls that mean the same in PyTorch and graphc, as `torch` and `F` of either.

OPERANDS are float arrays exact in f32, INDICES arrays of whole numbers. CASES lists calls on them, by subject.
"""

from __future__ import annotations

import re

import numpy as np

SHAPES = {
    "v": (4,), "u": (3,), "row": (1, 4), "one": (1, 1), "m": (5, 4), "w": (4, 3), "square": (3, 3), "a": (2, 5, 4),
    "b": (2, 4, 3), "c": (3, 1, 4, 2), "src": (5, 4),
}  # fmt: skip
INDICES = {
    "i": np.array([2, 0, 2, 4]),
    "k": np.array([[1, 0, 3], [2, 2, 0]]),
    "down": np.array([[0, 4, 2, 2], [1, 1, 4, 0]]),
    "beside": np.array([[3, 0, 1], [1, 1, 2], [0, 2, 2], [2, 3, 0], [1, 0, 0]]),
    "apart": np.array([[3, 0, 1], [1, 3, 2], [0, 2, 3], [2, 3, 0], [1, 0, 2]]),
}

CASES = {
    "products": (
        "torch.matmul(v, v)", "m @ v", "v @ w", "torch.matmul(m, w)", "a @ w", "a @ v", "m @ b", "v @ b", "a @ b",
        "a @ c", "a[:1] @ c", "row @ row.T", "row.T @ row", "one @ row", "torch.mm(m, w)", "m.mm(w)",
        "torch.mv(m, v)", "torch.bmm(a, b)", "torch.dot(v, v)", "v.dot(v)", "torch.inner(m, v)", "torch.inner(a, m)",
        "torch.outer(v, u)", "v.outer(u)", "torch.kron(m, w)", "torch.kron(v, m)", "torch.tensordot(m, w, 1)",
        "torch.tensordot(a, b, ([0, 2], [0, 1]))", "torch.tensordot(u, v, dims=0)", "m.T @ m", "a.mT @ a",
        "a.transpose(0, 1) @ b[:, :, :1].expand(2, 4, 3)[0]", "F.linear(a, w.T, u)", "F.linear(v, m)",
    ),
    "einsum": tuple(
        f"torch.einsum({equation!r}, {operands})"
        for equation, operands in (
            ("ij,jk", "m, w"), ("ij,kj->ki", "m, row"), ("bij,bjk->bik", "a, b"), ("bij,bjk->kib", "a, b"),
            ("...ij,...jk->...ik", "a, c"), ("ii->i", "square"), ("ii", "square"), ("ij->", "m"), ("ij -> ji", "m"),
            ("i,j->ij", "u, v"), ("bij,jk,bjk->ik", "a, w, b"), ("i...->...", "a"), ("ij,ij->i", "m, row"),
            ("ij,j->i", "m, v"), ("i,i", "v, v"), ("bij,bik->bjk", "a, a"), ("bj,aij,bi->ba", "m, a, src @ m.T"),
        )
    ),
    "parts": (
        "m[1]", "m[-1, 2]", "m[1:4]", "m[::2, 1:]", "m[:, None]", "a[..., 1]", "a[1, ..., None]", "a[:, 1:-1, ::3]",
        "m[i]", "m[:, k]", "m[i, :2]", "m[None, i]", "a[:, i]", "a[0, i]", "a[:, :, k]", "a[:, i, 1]", "a[1][:, k]",
        "m[i, i - i]", "a[k[:, :2] // 3, i[:2]]", "m.select(1, 2)", "m.narrow(0, 1, 3)", "torch.narrow(a, -1, 2, 2)",
        "torch.index_select(m, 0, i)", "a.index_select(1, i)", "torch.take(m, k)", "torch.gather(m, 0, down)",
        "m.gather(1, beside)", "torch.take_along_dim(m, beside, 1)", "torch.take_along_dim(m, i[None, :], dim=0)",
        "F.embedding(k, m)", "F.embedding(k, m, padding_idx=2)", "F.embedding(i, one.expand(5, 1) * 2)",
        "torch.unbind(m, 1)[2]", "m.T[i[:2]]", "m.flip(0)[i]", "torch.diagonal(square)",
    ),
    "places": (
        "torch.index_add(m, 0, i, src[:4])", "m.index_add(0, i, src[1:], alpha=-2)", "m.index_copy(0, i[1:], src[:3])",
        "a.index_fill(1, i, 3.0)", "torch.scatter_add(m, 0, down, src[1:3])", "m.scatter_add(1, beside, src[:, 1:])",
        "torch.scatter(m, 1, apart, src[:, :3])", "m.scatter(1, apart, 2.5)", "m.index_put((i[1:],), src[:3])",
        "m.index_put((i, i[:1]), v, accumulate=True)", "torch.index_put(m, (i,), src[:4], accumulate=True)",
        "m.index_put((i[1:], i[1:] - i[1:] + 1), u)",
    ),
    "joins": (
        "torch.cat([m, row])", "torch.cat((m, src, m), dim=1)", "torch.concat([v, u])", "torch.cat([a, a.flip(1)], -1)",
        "torch.stack([m, src])", "torch.stack([m, src, m], dim=-1)", "torch.hstack([v, u])", "torch.hstack([m, src])",
        "torch.vstack([v, m])", "torch.dstack([m, src])", "torch.column_stack([u, square])",
        "torch.split(m, 2)[2] * 2", "m.split([1, 3], dim=1)[1]", "torch.chunk(m, 3)[1]", "a.chunk(2, dim=-1)[0]",
        "torch.flip(m, [0, 1])", "m.flip(1)", "torch.fliplr(m)", "torch.roll(m, 7)", "torch.roll(m, 2, 0)",
        "m.roll((1, -2), (0, 1))", "m.repeat(2, 1)", "v.repeat(3, 2)", "torch.tile(m, (2,))", "v.tile((2, 2))",
        "torch.repeat_interleave(m, 2)", "m.repeat_interleave(3, dim=1)", "F.pad(m, (1, 2))", "F.pad(m, (1, -2, 0, 3))",
        "F.pad(a, (2, 1), value=0.5)", "F.pad(a, (2, 1), mode='reflect')", "F.pad(a, (3, 4), mode='replicate')",
        "F.pad(a, (4, 2), mode='circular')", "F.pad(a[None], (1, 2, 3, 4), mode='reflect')",
        "F.pad(a[None], (1, 2, 3, 1), mode='replicate')", "F.pad(a[None], (1, 0, 2, 1), mode='circular')",
    ),
    "views": (
        "a.movedim(0, -1)", "torch.movedim(a, (0, 2), (1, 0))", "torch.moveaxis(a, 2, 0)", "a.swapaxes(0, 2)",
        "torch.swapdims(a, 1, 2)", "a.permute(2, 0, 1)", "torch.permute(a, (1, 0, 2))", "a.transpose(0, -1)",
        "a.unflatten(2, (2, -1))", "a.flatten(1)", "torch.flatten(a)", "a.ravel()", "a.view_as(a.mT.mT)",
        "m.expand(3, 5, 4)", "row.expand(-1, 4)", "row.expand_as(m)", "torch.broadcast_to(v, (2, 3, 4))",
        "torch.broadcast_tensors(u[:, None], v)[0]", "row.squeeze()", "c.squeeze(1)", "c.squeeze((0, 1))",
        "m.unsqueeze(-1)", "torch.atleast_3d(v)", "torch.atleast_2d(v)", "a.reshape(4, -1)", "a.mT.reshape(-1)",
        "m.T.flip(0).reshape(2, 10)", "a.view(10, 4)",
    ),
    "orders": (
        "torch.sort(m).values", "m.sort(0, descending=True)[0]", "torch.topk(m, 2).values",
        "m.topk(3, dim=0, largest=False)[0]", "torch.median(m)", "m.median(1).values",
        "torch.median(m, dim=0, keepdim=True)[0]", "torch.quantile(m, 0.3)", "torch.quantile(m, 0.5, dim=1)",
        "m.quantile(0.75, dim=0, keepdim=True, interpolation='lower')",
        "torch.quantile(m, 0.4, dim=0, interpolation='higher')", "torch.quantile(m, 0.4, 1, interpolation='midpoint')",
        "torch.quantile(m, 0.3, dim=0, interpolation='nearest')", "torch.cumsum(m, 0)", "a.cumsum(dim=1)",
        "torch.cumprod(m, 1)", "(m * torch.abs(m - m[1])).cumprod(0)", "torch.diff(m)", "torch.diff(a, n=2, dim=1)",
        "torch.gather(m, 1, torch.argsort(m, 1))",
    ),
}  # fmt: skip


def operands() -> dict[str, np.ndarray]:
    """All float operands by name: numbers with few digits, none of them twice in one array."""
    rng = np.random.default_rng(11)
    return {
        name: rng.permutation(np.linspace(-2, 2, int(np.prod(shape)) + 1)[1:].round(3))
        .astype(np.float32)
        .reshape(shape)
        for name, shape in SHAPES.items()
    }


def named(call: str) -> list[str]:
    """The float operands that a call names."""
    words = set(re.findall(r"(?<![\w.'])[a-z]+(?![\w(='])", call))
    return [name for name in SHAPES if name in words]
