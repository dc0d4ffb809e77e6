"""From what was traced to one graph with names: what `Function` compiles."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field, replace

from graphc import generator
from graphc.errors import ArgumentError, TraceError, describe
from graphc.ir import ops
from graphc.ir.frozen import dataclass
from graphc.ir.graph import Graph, Origin, Output, TooLittleMemory, Value, reachable
from graphc.ir.rewrite import rebuild
from graphc.ir.types import FLOATS
from graphc.tensor import Parameter, Scalar

NOT_FINITE = "{name} is not finite"
PROBE = "probe "  # before the name of a result that is there to be looked at: see graphc.probes


@dataclass(frozen=True, slots=True)
class Probe:
    """A value to be looked at after each call, by the place that asks for it; see graphc.probes."""

    name: str
    value: Value
    printed: bool
    origin: Origin | None

    @property
    def output(self) -> tuple[str, Value]:
        """The result that holds it."""
        return PROBE + self.name, self.value


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms a function is compiled.

    finite     whether an output that is not finite is an error
    max_bytes  of the memory a call works in; None: any
    device     "cpu" or "cuda"; None: that of the parameters
    precision  of products of matrices: "highest", "tf32" or "bf16"
    """

    finite: bool = False
    max_bytes: int | None = None
    device: str | None = "cpu"
    precision: str = "highest"


@dataclass(frozen=True, slots=True)
class Plan:
    """What was traced, before it is compiled.

    packed   how results are handed out: "one", "tuple", "record", "none"
    fields   names of a record's results, where they are not those of the outputs
    figures  what is computed of outputs that are sums over samples, by the names of its results
    layers   class of each module that was called, by its path
    probes   values that are computed to be looked at, besides what is returned
    """

    name: str
    inputs: tuple[tuple[str, Value], ...]
    outputs: tuple[tuple[str, Value], ...]
    updates: tuple[tuple[Parameter, Value], ...]
    packed: str
    origin: Origin | None
    terms: Terms = field(default_factory=Terms)
    fields: tuple[str, ...] = ()
    figures: Mapping[str, Graph] = field(default_factory=dict)
    layers: Mapping[str, str] = field(default_factory=dict)
    probes: tuple[Probe, ...] = ()


def bind(plan: Plan) -> tuple[Graph, dict[str, Parameter], dict[str, Scalar]]:
    """The traced graph with one unique name an input, and the owners of its state and scalars by those names."""
    results = [*plan.outputs, *(each.output for each in plan.probes)]
    roots = [value for _, value in results] + [value for _, value in plan.updates]
    roots += [parameter.input for parameter, _ in plan.updates]
    data = {value: name for name, value in plan.inputs}
    names: set[str] = set(data.values())
    replaced: dict[Value, Value] = {
        value: ops.input(name=name, role="data", type=value.type) for value, name in data.items()
    }
    parameters: dict[str, Parameter] = {}
    scalars: dict[str, Scalar] = {}
    for value in reachable(tuple(roots)):
        if value.op is not ops.input or value in data:
            continue
        holder = value.owner
        if not isinstance(holder, (Parameter, Scalar)):
            inside = value.attrs["role"] == "state"  # of a loop: states of functions have owners
            advice = ["it belongs to the function given to scan or cond; return what you need from that function"]
            origin = value.origin or plan.origin
            if not inside:
                made = ["it is made here:", *describe(value.origin)] if value.origin else []
                advice, origin = ["add it to the list of inputs", *made], plan.origin
            text = f"input {value.attrs['name']!r} is used but not among the inputs of {plan.name}"
            raise TraceError(text, origin, advice)
        if value.type != holder.input.type:
            raise TraceError(
                f"{holder.name or 'a parameter'} was {value.type} when {plan.name} was traced and is {holder.type} now",
                plan.origin,
                ["convert the model first, then trace it"],
            )
        name = unique(holder.name or value.attrs["name"], names)
        replaced[value] = ops.input(name=name, role=value.attrs["role"], type=value.type)
        if isinstance(holder, Parameter):
            parameters[name] = holder
        else:
            scalars[name] = holder
    state_names = {parameter.input: name for name, parameter in parameters.items()}
    outputs = [Output("result", name, value) for name, value in results]
    outputs += [Output("update", state_names[parameter.input], value) for parameter, value in plan.updates]
    if generator.state.input in state_names:
        outputs.append(Output("update", state_names[generator.state.input], generator.next_call()))
    if plan.terms.finite:
        outputs += [finite_check(name, value) for name, value in plan.outputs if value.dtype in FLOATS]
    by_role = sorted(replaced.values(), key=lambda value: ("data", "state", "scalar").index(value.attrs["role"]))
    name = re.sub(r"[^\w.]", "_", plan.name)  # "<lambda>" would not parse back from text
    streams: dict[generator.Draw, int] = {}
    graph = rebuild(
        Graph(name, tuple(replaced), tuple(outputs)),
        lambda value: replaced.get(value) or generator.number_streams(value, streams),
    )
    return replace(graph, inputs=tuple(by_role)), parameters, scalars


def is_shown(name: str) -> bool:
    """Whether a result is what a probe shows, not what the function returns."""
    return name.startswith(PROBE)


def unique(name: str, taken: set[str]) -> str:
    number, candidate = 1, name
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    taken.add(candidate)
    return candidate


def finite_check(name: str, value: Value) -> Output:
    """Counts numbers that are NaN or infinite: x - x is 0 for all others."""
    zero = ops.constant(0.0, value)
    wrong = ops.cast(ops.logical_not(ops.equal(ops.sub(value, value), zero)), dtype="i64")
    count = ops.sum(wrong, axes=tuple(range(len(value.shape)))) if value.shape else wrong
    return Output("check", NOT_FINITE.format(name=name), ops.reshape(count, shape=()) if value.shape else count)


def too_little_memory(error: TooLittleMemory, plan: Plan) -> ArgumentError:
    """What could be done about a bound that is too small, and why the batch could not be taken in slices."""
    advice = ["a smaller maximum of its dims needs less"]
    origin, place = error.origin, []
    if error.whole:
        module = f", in module {origin.module}" if origin is not None and origin.module else ""
        if origin is not None and plan.origin is not None and str(origin) != str(plan.origin):
            place = describe(origin)
        advice += [f"the batch cannot be taken in slices: {error.whole}{module}", *place]
        advice.append("smaller batches can be gathered up for one update: accumulate=, with other means of a batch")
    text = f"max_bytes is {plan.terms.max_bytes:,}; {plan.name} needs at least {error.least:,} bytes to work in"
    return ArgumentError(text, plan.origin, advice)
