"""Attention and transformer layers that are compared with PyTorch: expressions that mean the same in both.

Every case is a layer (or None) and an expression of it and of the arrays below; `F` are the functions of the package.
"""

from __future__ import annotations

SIZES = {"batch": 3, "length": 5, "source": 7}

INPUTS = {
    "query": ("batch", 2, "length", 4),
    "key": ("batch", 2, "source", 4),
    "value": ("batch", 2, "source", 3),
    "queries": ("batch", 4, "length", 4),
    "x": ("batch", "length", 8),
    "y": ("batch", "source", 8),
    "few": ("batch", "source", 6),
    "fewer": ("batch", "source", 5),
    "tall": ("length", "batch", 8),
    "high": ("source", "batch", 8),
    "single": ("length", 8),
    "one": ("batch", 1, 8),
}
MASKS = {  # of bool, but for those in FLOATING; one row of `seen` and of `added` lets nothing through
    "seen": ("length", "source"),
    "added": ("length", "source"),
    "hidden": ("length", "source"),
    "square": ("length", "length"),
    "padded": ("batch", "source"),
    "padding": ("batch", "length"),
    "lowered": ("batch", "source"),
    "headwise": ("2*batch", "length", "source"),
}
FLOATING = ("added", "lowered")

ATTENTION = [
    (None, f"F.scaled_dot_product_attention({arguments})")
    for arguments in (
        "query, key, value",
        "query, key, value, scale=0.3",
        "query, key, value, attn_mask=seen",
        "query, key, value, attn_mask=added",
        "query, key, value, is_causal=True",
        "query, query, query, is_causal=True",
        "queries, key, value, enable_gqa=True",
        "queries, key, value, attn_mask=seen, enable_gqa=True",
        "x, y, y",
        "one, y, y",
        "one, one, one",
    )
]
HEADS = [
    ("MultiheadAttention(8, 2, batch_first=True)", "layer(x, x, x)"),
    ("MultiheadAttention(8, 2, batch_first=True)", "layer(x, y, y, need_weights=False)"),
    ("MultiheadAttention(8, 4)", "layer(tall, high, high, average_attn_weights=False)"),
    ("MultiheadAttention(8, 2, bias=False)", "layer(tall, tall, tall)"),
    ("MultiheadAttention(8, 2, batch_first=True, kdim=6, vdim=5)", "layer(x, few, fewer)"),
    ("MultiheadAttention(8, 2, batch_first=True, vdim=5, bias=False)", "layer(x, y, fewer)"),
    ("MultiheadAttention(8, 2, batch_first=True)", "layer(x, y, y, attn_mask=hidden)"),
    ("MultiheadAttention(8, 2, batch_first=True)", "layer(x, y, y, attn_mask=headwise, average_attn_weights=False)"),
    ("MultiheadAttention(8, 2, batch_first=True)", "layer(x, y, y, key_padding_mask=padded)"),
    ("MultiheadAttention(8, 2)", "layer(tall, high, high, padded, attn_mask=hidden)"),
    ("MultiheadAttention(8, 2, batch_first=True)", "layer(x, y, y, lowered, False, added)"),
    ("MultiheadAttention(8, 2)", "layer(single, single, single)"),
    ("MultiheadAttention(8, 1, batch_first=True)", "layer(one, one, one)"),
    ("MultiheadAttention(8, 2, dropout=0.5, batch_first=True).eval()", "layer(x, x, x)"),
]
LAYERS = [
    ("TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)", "layer(x)"),
    ("TransformerEncoderLayer(8, 2, 16).eval()", "layer(tall, src_key_padding_mask=padding)"),
    (
        "TransformerEncoderLayer(8, 2, 16, 0.0, 'gelu', 1e-3, True, norm_first=True)",
        "layer(x, src_mask=square, is_causal=True)",
    ),
    ("TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True, bias=False)", "layer(one)"),
    ("TransformerDecoderLayer(8, 2, 16, 0.0, batch_first=True)", "layer(x, y, tgt_mask=square)"),
    ("TransformerDecoderLayer(8, 2, 16, 0.0, F.gelu, norm_first=True)", "layer(tall, high, memory_mask=hidden)"),
    (
        "TransformerEncoder(TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True), 2)",
        "layer(x, mask=square, src_key_padding_mask=padding)",
    ),
    (
        "TransformerEncoder(TransformerEncoderLayer(8, 2, 16, 0.0, norm_first=True), 2, LayerNorm(8), False)",
        "layer(tall)",
    ),
    (
        "TransformerDecoder(TransformerDecoderLayer(8, 2, 16, 0.0, batch_first=True), 2, LayerNorm(8))",
        "layer(x, y, square, memory_key_padding_mask=padded)",
    ),
]
GROUPS = {"attention": ATTENTION, "heads": HEADS, "layers": LAYERS}


def names_in(expression: str, names: dict[str, tuple[object, ...]]) -> list[str]:
    """Which of the arrays an expression uses."""
    code = compile(expression, "case", "eval")
    return [name for name in names if name in code.co_names]
