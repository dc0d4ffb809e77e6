"""Function texts by precision."""

from __future__ import annotations

Texts = dict[str, str]


def both(text: str) -> Texts:
    """One text for both precisions."""
    return {"f32": text, "f64": text}


def widened(text: str) -> Texts:
    """In f32, the f64 function of arguments made wider."""
    head = text.partition(":\n")[0]
    name, parameters = head.removeprefix("def ").rstrip(")").split("(")
    wide = ", ".join(f"as_f64({parameter})" for parameter in parameters.split(", "))
    return {"f32": f"{head}:\n    return as_f32({name}({wide}))\n", "f64": text}
