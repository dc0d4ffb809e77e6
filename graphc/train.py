"""The training loop: `fit`, `evaluate`, `predict`, and callbacks."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

import numpy as np

from graphc.arrays import as_array, shows_array
from graphc.checkpoint import save
from graphc.cuda import is_afar
from graphc.errors import BatchError, NumericsError, TraceError
from graphc.function import Function
from graphc.ir.graph import user_origin
from graphc.ir.types import bound
from graphc.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from graphc.settings import check_choice, check_number, check_path, check_switch, check_whole, require

SLOW = 0.5  # seconds an epoch may take before its progress is drawn within the epoch
WIDTH = 24


@dataclass
class History:
    """One row an epoch: `history.rows[0]["loss"]`, or `history["loss"]` for a column."""

    rows: list[dict[str, float]] = field(default_factory=list)

    def __getitem__(self, name: str) -> list[float]:
        check_name("column", name)
        return [watched(row, name) for row in self.rows]

    def __len__(self) -> int:
        return len(self.rows)


class Callback:
    """What `fit` calls after each epoch; a true result of `after_epoch` ends the training.

    each_batch  also call `after_batch`; an epoch is then one native call a batch
    """

    each_batch = False

    def before_training(self, step: Function) -> None:
        """Called once, before the first epoch."""

    def after_batch(self) -> None:
        """Called after every training batch, where `each_batch` asks for it."""

    def after_epoch(self, epoch: int, row: Mapping[str, float]) -> bool:
        """`row` holds this epoch's means; validation figures have the prefix `val_`."""
        return False


class EarlyStopping(Callback):
    """Stop when `monitor` has not improved by more than `min_delta` for `patience` epochs.

    mode  "min", "max", or "auto": losses are to fall, everything else is to rise
    """

    def __init__(self, monitor: str = "", patience: int = 3, min_delta: float = 0.0, mode: str = "auto") -> None:
        self.monitor = check_name("monitor", monitor)
        self.patience = check_whole("patience", patience, 0)
        self.min_delta = check_number("min_delta", min_delta)
        self.mode = check_choice("mode", mode, ("min", "max", "auto"))
        self.before_training(None)

    def before_training(self, step: Function | None) -> None:
        self.best, self.waited = math.inf, 0

    def after_epoch(self, epoch: int, row: Mapping[str, float]) -> bool:
        cost = cost_of(row, self.monitor, self.mode)
        if cost < self.best - self.min_delta:
            self.best, self.waited = cost, 0
            return False
        self.waited += 1
        return self.waited >= self.patience


class LearningRateSchedule(Callback):
    """Step a schedule of optim.lr_scheduler after every epoch, or after every training batch.

    every    "epoch" or "batch"
    monitor  the column a ReduceLROnPlateau is given; without one, val_loss where there is validation, else loss
    """

    def __init__(self, scheduler: LRScheduler, every: str = "epoch", monitor: str = "") -> None:
        fits = isinstance(scheduler, LRScheduler)
        require(fits, "scheduler", scheduler, "a schedule, such as optim.lr_scheduler.StepLR(optimizer, 10)")
        check_choice("every", every, ("epoch",) if isinstance(scheduler, ReduceLROnPlateau) else ("epoch", "batch"))
        self.scheduler, self.each_batch = scheduler, every == "batch"
        self.monitor = check_name("monitor", monitor)

    def after_batch(self) -> None:
        self.scheduler.step()

    def after_epoch(self, epoch: int, row: Mapping[str, float]) -> bool:
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(watched(row, self.monitor or default_column(row)))
        elif not self.each_batch:
            self.scheduler.step()
        return False


class Checkpoint(Callback):
    """Save everything the step holds after each epoch, or only after the best one.

    monitor  with `best_only`, the column to be smallest (losses) or largest (all others)
    """

    def __init__(self, path: str, monitor: str = "", best_only: bool = False) -> None:
        self.path, self.monitor = check_path("path", path), check_name("monitor", monitor)
        self.best_only = check_switch("best_only", best_only)
        self.best = math.inf

    def before_training(self, step: Function) -> None:
        self.step, self.best = step, math.inf

    def after_epoch(self, epoch: int, row: Mapping[str, float]) -> bool:
        cost = cost_of(row, self.monitor)
        if not self.best_only or cost < self.best:
            self.best = cost
            save(self.step.state_dict(), self.path, {"epoch": str(epoch)})
        return False


def default_column(row: Mapping[str, float]) -> str:
    return "val_loss" if "val_loss" in row else "loss"


def watched(row: Mapping[str, float], name: str) -> float:
    if name not in row:
        from graphc.suggestions import did_you_mean

        text = f"nothing called {name!r}; there is {', '.join(row)}"
        raise TraceError(text, user_origin(), did_you_mean(name, row))
    return row[name]


def cost_of(row: Mapping[str, float], monitor: str, mode: str = "auto") -> float:
    """What is to fall: the watched column, or its negative where that is to rise."""
    name = monitor or default_column(row)
    rising = mode == "max" or (mode == "auto" and not name.endswith("loss"))
    return -watched(row, name) if rising else watched(row, name)


def check_name(setting: str, name: Any) -> str:
    require(isinstance(name, str), setting, name, "the name of a column, such as 'val_loss'")
    return str(name)


def check_step(name: str, step: Any, maker: str) -> None:
    require(isinstance(step, Function), name, step, f"a compiled step; make one with {maker}")


def fit(
    step: Function,
    loader: Any,
    epochs: int,
    *,
    validate: tuple[Function, Any] | None = None,
    callbacks: Sequence[Callback] = (),
    verbose: bool | None = None,
) -> History:
    """Train for some epochs; one native call each.

    validate  (eval step, loader): figures with the prefix `val_` after every epoch
    verbose   print a line an epoch; None: only when standard error is a terminal or GRAPHC_SHOW is set
    """
    check_step("step", step, "gx.train_step(net, loss, optimizer, x=..., y=...) or @gx.step")
    check_whole("epochs", epochs, 0)
    fits = isinstance(callbacks, (list, tuple)) and all(isinstance(callback, Callback) for callback in callbacks)
    require(fits, "callbacks", callbacks, "a list of gx.Callback objects, such as [gx.EarlyStopping()]")
    if validate is not None:
        fits = isinstance(validate, (list, tuple)) and len(validate) == 2
        require(fits, "validate", validate, "a pair (eval step, loader)")
        check_step("validate[0]", validate[0], "gx.eval_step(net, loss, x=..., y=...)")
    if verbose is not None:
        check_switch("verbose", verbose)
    history, bar = History(), Progress(epochs, verbose)
    for callback in callbacks:
        callback.before_training(step)
    for epoch in range(1, epochs + 1):
        row = as_row(run_epoch(step, loader, callbacks, bar.start(epoch), bar.slices))
        if validate is not None:
            tested = as_row(validate[0].epoch(validate[1]))
            row |= {f"val_{name}": number for name, number in tested.items()}
        history.rows.append(row)
        bar.finish(epoch, row)
        if not math.isfinite(row.get("loss", 0.0)):
            raise NumericsError(
                f"the loss became {row['loss']} in epoch {epoch}", user_origin(), ["lower the learning rate"]
            )
        asked_to_stop = [callback.after_epoch(epoch, row) for callback in callbacks]
        if any(asked_to_stop):
            break
    return history


def run_epoch(step: Function, loader: Any, callbacks: Sequence[Callback], draw: Any, slices: int) -> Any:
    """One epoch of training: in a few slices, or batch by batch where a callback asks for it."""
    each_batch = [callback for callback in callbacks if callback.each_batch]
    if not each_batch:
        return step.epoch(loader, draw, slices=slices)

    def after_batch(done: int, total: int) -> None:
        for callback in each_batch:
            callback.after_batch()
        if draw is not None:
            draw(done, total)

    return step.epoch(loader, after_batch, slices=len(loader))


def evaluate(step: Function, loader: Any) -> Any:
    """The means over a loader's samples of what an eval step returns."""
    check_step("step", step, "gx.eval_step(net, loss, x=..., y=...)")
    return step.epoch(loader)


def predict(
    step: Function, batches: Iterable[Any] | np.ndarray[Any, Any], batch_size: int | None = None
) -> np.ndarray[Any, Any]:
    """The outputs of a predict step for any array or for a loader's batches (their first part), joined."""
    check_step("step", step, "gx.predict_step(net, x=...)")
    if step.packed != "one" or not step.runner.results[0][1].shape or not step.inputs or not step.inputs[0].shape:
        raise TraceError(
            f"predict joins rows, and {step.name} does not make one array of rows of another", user_origin()
        )
    if batch_size is not None:
        check_whole("batch_size", batch_size, 1)
    if shows_array(batches) or is_afar(batches):
        rows: Any = batches if step.device == "cuda" and is_afar(batches) else as_array(batches)
        require(rows.ndim > 0, "batches", batches, "an array of samples")
        size = batch_size or bound(step.inputs[0].shape[0])
        parts: Iterable[Any] = (rows[start : start + size] for start in range(0, len(rows), size))
    else:
        require(isinstance(batches, Iterable), "batches", batches, "an array, or a loader or list of batches")
        parts = (batch[0] if isinstance(batch, (tuple, list)) else batch for batch in batches)
    results = [step(part) for part in parts]
    if not results:
        raise BatchError("predict got no samples", user_origin())
    return np.concatenate(results)


def as_row(record: Any) -> dict[str, float]:
    """The numbers of a record; arrays, such as a confusion matrix, are no column of a history."""
    return {name: float(number) for name, number in record._asdict().items() if np.ndim(number) == 0}


class Progress:
    """A line an epoch, and a bar within epochs that take long; on a terminal the bar is drawn over itself."""

    def __init__(self, epochs: int, verbose: bool | None, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.terminal = self.stream.isatty()
        self.shown = bool(os.environ.get("GRAPHC_SHOW")) or self.terminal if verbose is None else verbose
        self.digits = len(str(epochs))
        self.epochs = epochs
        self.slices = 1
        self.began = time.perf_counter()

    def start(self, epoch: int) -> Any:
        self.began = time.perf_counter()
        return (lambda done, total: self.draw(epoch, done, total)) if self.shown and self.terminal else None

    def draw(self, epoch: int, done: int, total: int) -> None:
        filled = WIDTH * done // max(total, 1)
        self.stream.write(f"\r{self.label(epoch)} [{'=' * filled}{' ' * (WIDTH - filled)}] {done}/{total}")
        self.stream.flush()

    def label(self, epoch: int) -> str:
        return f"epoch {epoch:>{self.digits}}/{self.epochs}"

    def finish(self, epoch: int, row: Mapping[str, float]) -> None:
        seconds = time.perf_counter() - self.began
        self.slices = 20 if seconds > SLOW else 1
        if not self.shown:
            return
        figures = "  ".join(f"{name} {number:.4f}" for name, number in row.items())
        self.stream.write(
            f"{chr(13) if self.terminal else ''}{self.label(epoch)}  {figures}  {seconds:.2f} s".ljust(WIDTH + 40)
            + "\n"
        )
        self.stream.flush()
