"""Findings as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

WANTED = {  # what the figures of a workload should be beside those of a peer: (workload, peer) -> peer / ours
    ("W3", "torch.compile, reduce-overhead"): 3.0,
    ("L1", "torch eager"): 1 / 1.1,
    ("W9", "torch.compile"): 1.0,
}
MICROSECONDS = {"W3": 25.0}
SHARE = 0.8  # of the bandwidth of a copy, for a chain that is bound by memory
STARTS = {"cold": 2.0, "warm": 0.1}  # seconds to make the step of W3
VERDICTS = {True: "met", False: "MISSED", None: "not measured"}


def is_wrong(section: Mapping[str, Any]) -> bool:
    return any(row.get("ok", "error" not in row) is False for row in section["rows"])


def lines_of(section: Mapping[str, Any]) -> str:
    """A section as it is told when it is done."""
    head = f"{section['section']} ({section['seconds']:.1f} s)"
    return "\n".join([head, *(f"  {told(row)}" for row in section["rows"])])


def told(row: Mapping[str, Any]) -> str:
    verdict = {"True": "ok  ", "False": "WRONG  "}.get(str(row.get("ok")), "")
    if "error" in row and "ok" not in row:
        return "FAILED  " + str(row["error"]).replace("\n", "\n    ")
    shown = {key: each for key, each in row.items() if key not in ("ok", "title", "resources", "fresh")}
    return verdict + "  ".join(f"{key} {number(each)}" for key, each in shown.items())


def number(given: Any) -> str:
    if isinstance(given, float):
        return f"{given:,.0f}" if abs(given) >= 1e5 else f"{given:.4g}"
    return f"{given:,}" if isinstance(given, int) and not isinstance(given, bool) else str(given)


def summary(found: Sequence[Mapping[str, Any]]) -> str:
    """The table of times beside those of peers, and how many checks passed."""
    wrong = [each["section"] for each in found if is_wrong(each)]
    rows = [row for each in found for row in each["rows"] if "microseconds" in row and "system" in row]
    checks = [row for each in found for row in each["rows"] if "ok" in row and "program" in row]
    kernels = sum(row.get("kernels", 0) for row in checks)
    spilt = sum(row.get("local_bytes", 0) for row in checks)
    right = sum(row["ok"] for row in checks)
    lines = ["", f"{kernels} kernels, {spilt} bytes of local memory, {right} of {len(checks)} programs right"]
    last = f"not right: {', '.join(wrong)}" if wrong else "everything that was checked is right"
    return "\n".join([*lines, *table(rows), *map(verdict, wanted_figures(found)), last])


def wanted_figures(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every figure that is wanted, what it is in these findings, and whether that is met; None: not measured."""
    rows = [row for each in found for row in each["rows"]]
    steps = {(row["workload"], row["system"]): row["microseconds"] for row in rows if is_step(row)}
    ours = {workload: figure for (workload, system), figure in steps.items() if system == "graphc"}
    figures: list[tuple[str, str, float, float | None]] = [
        (f"{name}: microseconds a step", "at most", most, ours.get(name)) for name, most in MICROSECONDS.items()
    ]
    for (name, peer), least in WANTED.items():
        known = (name, peer) in steps and name in ours
        ratio = steps[name, peer] / ours[name] if known else None
        figures.append((f"{name}: times quicker than {peer}", "at least", least, ratio))
    share = next((row["share_of_copy"] for row in rows if "share_of_copy" in row), None)
    figures.append(("memory-bound chain: share of the bandwidth of a copy", "at least", SHARE, share))
    starts = {row["what"]: row for row in rows if "make_seconds" in row and str(row.get("what", "")).endswith("start")}
    for state, most in STARTS.items():
        what = f"{state} start"
        seconds = starts[what]["make_seconds"] if what in starts else None
        figures.append((f"W3: seconds to make the step, {what}", "at most", most, seconds))
    return [
        {"figure": title, "wanted": f"{bound} {limit:.3g}", "found": figure, "met": is_met(bound, limit, figure)}
        for title, bound, limit, figure in figures
    ]


def is_step(row: Mapping[str, Any]) -> bool:
    return row.get("what") == "step" and row.get("precision") == "highest" and "microseconds" in row


def is_met(bound: str, limit: float, figure: float | None) -> bool | None:
    if figure is None:
        return None
    return figure <= limit if bound == "at most" else figure >= limit


def verdict(figure: Mapping[str, Any]) -> str:
    found = "" if figure["found"] is None else f" {figure['found']:.3g}"
    return f"{VERDICTS[figure['met']]:<12} {figure['figure']}:{found} (wanted: {figure['wanted']})"


def table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Microseconds a step, one line for each system and workload; a peer's in relation to ours."""
    for workload, precision in dict.fromkeys((row["workload"], row["precision"]) for row in rows):
        alike = [row for row in rows if (row["workload"], row["precision"]) == (workload, precision)]
        ours = {row["what"]: row for row in alike if row["system"] == "graphc"}
        title = next((row["title"] for row in ours.values()), workload)
        yield f"{workload}  {title}, products in {precision}"
        for what, row in ours.items():
            most = MICROSECONDS.get(workload) if what == "step" and precision == "highest" else None
            yield f"  {'graphc, ' + what:<34} {row['microseconds']:>12.1f} us{wanted(most)}"
        for row in alike:
            if row["system"] != "graphc":
                yield f"  {row['system']:<34} {row['microseconds']:>12.1f} us{beside(row, ours.get('step'))}"


def beside(row: Mapping[str, Any], ours: Mapping[str, Any] | None) -> str:
    if ours is None:
        return ""
    ratio = row["microseconds"] / ours["microseconds"]
    return f"  {ratio:.2f} x graphc{wanted(WANTED.get((row['workload'], row['system'])))}"


def wanted(figure: float | None) -> str:
    return "" if figure is None else f"  (wanted: {figure:.3g})"
