"""Pictures of a training: curves drawn live and saved, images with their labels, fitted curves, boundaries.

matplotlib draws them (`pip install 'graphc[viz]'`) and is imported only then; no display is needed. With a `path`
(.png, .svg, .pdf) a picture is saved, its folder made if need be; without one a notebook shows it. What is not shown is
returned, as a matplotlib Figure.
"""

from __future__ import annotations

import functools
import io
import math
import os
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, ParamSpec

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graphc.arrays import as_array
from graphc.backends.files import replacing
from graphc.errors import GraphcError, ShapeError, shell
from graphc.function import Function
from graphc.ir.graph import user_origin
from graphc.settings import check_choice, check_function, check_path, check_whole, is_number, require
from graphc.train import Callback, History

Location = str | os.PathLike[str]
Curve = tuple[ArrayLike, ArrayLike]
Arguments = ParamSpec("Arguments")

# Okabe and Ito 2008, Color Universal Design: told apart by all kinds of colour vision.
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
RED = "#c00000"
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
DASHES = ("-", "--", "-.", (0, (1, 1)))  # curves and classes differ in more than their colour
MARKS = ("o", "^", "s", "D", "v", "P")
STYLE = {
    "font.size": 11.0,
    "axes.titlesize": 12.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "legend.framealpha": 0.8,
    "legend.edgecolor": "none",
    "lines.linewidth": 2.0,
    "svg.hashsalt": "graphc",  # equal pictures are equal files
}
DOTS_PER_INCH = 150
FEW_POINTS = 30  # curves of no more points show each of them
MOST_IMAGES = 80
GRID = 300  # points a side, from which a boundary is drawn


class LivePlot(Callback):
    """Draws the curves of a training after each epoch of `gx.fit`: a panel each for the loss and every metric.

    path  where to save them; by default a notebook shows them and a program saves curves.png in the working folder
    """

    def __init__(self, path: Location | None = None) -> None:
        load_matplotlib()  # an error now, not after the first epoch
        self.path = None if path is None else check_path("path", path)
        self.before_training(None)

    def before_training(self, step: Function | None) -> None:
        self.history = History()
        self.place: Any = None  # the notebook's output that is drawn over

    def after_epoch(self, epoch: int, row: Mapping[str, float]) -> bool:
        self.history.rows.append(dict(row))
        figure = draw_history(self.history)
        if in_notebook():
            self.place = show(figure, self.place)
        if self.path is not None or not in_notebook():
            write(figure, self.path or "curves.png")
        return False


def plot_history(history: History, path: Location | None = None) -> Any:
    """The curves of what `gx.fit` returned: a panel each for the loss and every metric, with that of validation."""
    require(isinstance(history, History), "history", history, "what gx.fit returns")
    return finish(draw_history(history), path)


def plot_curves(
    curves: Mapping[str, Curve],
    path: Location | None = None,
    *,
    points: Curve | None = None,
    xlabel: str = "epoch",
    ylabel: str = "loss",
    yscale: str = "linear",
) -> Any:
    """Curves by name in one panel, each a pair (x, y) of equally long lists.

    points  a pair (x, y) drawn as dots, for curves that are fitted to data
    yscale  "linear" or "log"
    """
    require(isinstance(curves, Mapping), "curves", curves, "a dictionary {name: (x, y)}")
    for name, curve in [*curves.items(), *([] if points is None else [("points", points)])]:
        require(is_curve(curve), str(name), curve, "a pair (x, y) of equally long lists of numbers")
    check_choice("yscale", yscale, ("linear", "log"))
    return finish(draw_curves(curves, points, xlabel, ylabel, yscale), path)


def plot_boundary(
    points: ArrayLike,
    labels: ArrayLike,
    score: Callable[[NDArray[np.float32]], ArrayLike],
    path: Location | None = None,
    *,
    levels: Sequence[float] = (0.0,),
) -> Any:
    """Points of the plane by class, and the lines on which a score of points has given values.

    points  (n, 2)
    labels  n numbers, of at most six classes
    score   float32 (m, 2) -> m numbers; positive on one side of the boundary
    levels  values of the score, the boundary 0 drawn solid and others, such as margins, dashed

    Raises ShapeError for points that do not lie in the plane, or are not as many as labels.
    """
    check_function("score", score, takes=1)
    fits = isinstance(levels, (list, tuple, np.ndarray)) and all(map(is_number, levels))
    require(fits, "levels", levels, "a list of numbers")
    plane, kinds = as_array(points, "points"), np.ravel(as_array(labels, "labels"))
    require(kinds.dtype.kind in "biuf", "labels", labels, "a list of numbers")
    require(len(np.unique(kinds)) <= len(MARKS), "labels", labels, "of at most six classes")
    if plane.shape != (len(kinds), 2):
        raise ShapeError(f"plot_boundary got points {plane.shape} and {len(kinds)} labels", user_origin())
    return finish(draw_boundary(plane, kinds, score, levels), path)


def show_images(
    images: ArrayLike,
    labels: Sequence[Any] | NDArray[Any] | None = None,
    predictions: Sequence[Any] | NDArray[Any] | None = None,
    path: Location | None = None,
    *,
    classes: Sequence[str] | None = None,
    columns: int = 8,
) -> Any:
    """Images in a grid, titled with the label and below it the prediction; wrong ones in red and in a frame.

    images       grey (n, h, w) or (n, 1, h, w), colour (n, 3, h, w) or (n, h, w, 3); floats of 0 .. 1 or uint8,
                 floats outside of that range are stretched to it; the first 80 are drawn
    labels       n numbers or texts
    predictions  n numbers or texts
    classes      names of labels and predictions that are numbers

    Raises ShapeError for arrays that are not images, or not as many as labels or predictions.
    """
    pictures = as_pictures(as_array(images, "images"))
    check_whole("columns", columns, 1)
    require(classes is None or isinstance(classes, (list, tuple, np.ndarray)), "classes", classes, "a list of names")
    for name, given in (("labels", labels), ("predictions", predictions)):
        require(given is None or hasattr(given, "__len__"), name, given, "a list with one for each image")
        if given is not None and len(given) != len(pictures):
            raise ShapeError(f"show_images got {len(pictures)} images and {len(given)} {name}", user_origin())
    return finish(draw_images(pictures[:MOST_IMAGES], labels, predictions, classes, columns), path)


def is_curve(given: Any) -> bool:
    pair = given if isinstance(given, (list, tuple)) and len(given) == 2 else ((), 0)
    x, y = (np.shape(as_array(each, "a curve")) for each in pair)
    return bool(math.prod(x) == math.prod(y) == max((*x, 0)) == max((*y, 0)))  # lists, rows and columns


# -- drawing


def load_matplotlib() -> Any:
    try:
        import matplotlib.figure
    except ImportError:
        raise GraphcError(
            "drawing needs matplotlib, which is not installed", user_origin(), ["pip install 'graphc[viz]'"]
        ) from None
    return matplotlib


def styled(draw: Callable[Arguments, Any]) -> Callable[Arguments, Any]:
    """Drawing in this file's style, and in the user's own where this one says nothing."""

    @functools.wraps(draw)
    def drawn(*arguments: Arguments.args, **named: Arguments.kwargs) -> Any:
        with load_matplotlib().rc_context(STYLE):
            return draw(*arguments, **named)

    return drawn


def new_panels(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Any, Any]:
    """A figure, which no window system knows of, and its panels in reading order; sizes in inches."""
    figure = load_matplotlib().figure.Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False).ravel()


@styled
def draw_history(history: History) -> Any:
    columns = list(history.rows[0]) if history.rows else []
    quantities = list(dict.fromkeys(name.removeprefix("val_") for name in columns))
    figure, panels = new_panels(4.2 * max(len(quantities), 1), 3.4, columns=max(len(quantities), 1))
    epochs = np.arange(1, len(history) + 1)
    for panel, quantity in zip(panels, quantities):
        parts = {"training": quantity, "validation": f"val_{quantity}"}
        add_curves(panel, {part: (epochs, history[name]) for part, name in parts.items() if name in columns})
        panel.set(title=quantity, xlabel="epoch")
    return figure


@styled
def draw_curves(curves: Mapping[str, Curve], points: Curve | None, xlabel: str, ylabel: str, yscale: str) -> Any:
    figure, (panel,) = new_panels(6.4, 4.0)
    if points is not None:
        panel.plot(*points, "o", color="0.55", markersize=4, label="data")
    add_curves(panel, curves)
    panel.set(xlabel=xlabel, ylabel=ylabel, yscale=yscale)
    return figure


def add_curves(panel: Any, curves: Mapping[str, Curve]) -> None:
    for (name, (x, y)), colour, dashes in zip(curves.items(), cycle(COLOURS), cycle(DASHES)):
        mark = "o" if np.size(x) <= FEW_POINTS else ""
        panel.plot(x, y, color=colour, linestyle=dashes, marker=mark, markersize=4, label=name)
    panel.grid(True)
    if all(np.asarray(x).dtype.kind == "i" for x, _ in curves.values()):
        panel.xaxis.get_major_locator().set_params(integer=True)
    if len(panel.lines) > 1:
        panel.legend()


@styled
def draw_boundary(
    points: NDArray[Any],
    labels: NDArray[Any],
    score: Callable[[NDArray[np.float32]], ArrayLike],
    levels: Sequence[float],
) -> Any:
    figure, (panel,) = new_panels(5.4, 4.6)
    for kind, colour, mark in zip(np.unique(labels), COLOURS, MARKS):
        of_kind = points[labels == kind]
        panel.plot(*of_kind.T, mark, color=colour, markersize=5, alpha=0.75, label=f"class {kind:g}")
    (left, right), (bottom, top) = panel.get_xlim(), panel.get_ylim()
    across, up = np.meshgrid(np.linspace(left, right, GRID), np.linspace(bottom, top, GRID))
    places = np.stack([across.ravel(), up.ravel()], axis=1).astype(np.float32)
    heights = as_array(score(places), "the score")
    if heights.size != len(places):
        raise ShapeError(f"score gives shape {heights.shape} for {len(places)} points; one number each", user_origin())
    heights = heights.reshape(across.shape)
    styles = ["solid" if level == 0 else "dashed" for level in sorted(levels)]
    panel.contour(across, up, heights, sorted(levels), colors="black", linestyles=styles, linewidths=1.5)
    panel.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(MARKS))
    return figure


def as_pictures(images: NDArray[Any]) -> NDArray[Any]:
    """Images as matplotlib takes them: (n, h, w) or (n, h, w, 3), uint8 or floats of 0 .. 1."""
    array = np.moveaxis(images, 1, -1) if images.ndim == 4 and images.shape[1] in (1, 3) else images
    array = array[..., 0] if array.ndim == 4 and array.shape[-1] == 1 else array
    if array.ndim != 3 and not (array.ndim == 4 and array.shape[-1] == 3):
        raise ShapeError(
            f"show_images got an array of shape {images.shape}, which is not a list of images",
            user_origin(),
            ["grey images are (n, h, w) or (n, 1, h, w), colour ones (n, 3, h, w) or (n, h, w, 3)"],
        )
    if array.dtype == np.uint8 or array.size == 0:
        return array
    low, high = array.min(), array.max()
    return array if low >= 0 and high <= 1 else (array - low) / (high - low or 1)


@styled
def draw_images(
    pictures: NDArray[Any],
    labels: Sequence[Any] | NDArray[Any] | None,
    predictions: Sequence[Any] | NDArray[Any] | None,
    classes: Sequence[str] | None,
    columns: int,
) -> Any:
    rows, columns = max(math.ceil(len(pictures) / columns), 1), max(min(columns, len(pictures)), 1)
    lines = sum(given is not None for given in (labels, predictions))
    figure, panels = new_panels(1.25 * columns, (1.2 + 0.2 * lines) * rows, rows, columns)
    for panel in panels:
        panel.set(xticks=[], yticks=[], frame_on=False)
    for number, (panel, picture) in enumerate(zip(panels, pictures)):
        found = [title(given[number], classes) for given in (labels, predictions) if given is not None]
        wrong = len(found) == 2 and found[0] != found[1]
        panel.imshow(picture, cmap="gray", vmin=0, vmax=255 if picture.dtype == np.uint8 else 1)
        panel.set_title("\n→ ".join(found), fontsize=9, color=RED if wrong else "black", pad=3)
        if wrong:
            panel.set_frame_on(True)
            for side in panel.spines.values():
                side.set(visible=True, color=RED, linewidth=2.5)
    return figure


def title(label: Any, classes: Sequence[str] | None) -> str:
    if classes is None or isinstance(label, str):
        return str(label)
    require(
        is_number(label) and 0 <= label < len(classes), "a label", label, f"the number of one of {len(classes)} classes"
    )
    return str(classes[int(label)])


# -- handing out


def finish(figure: Any, path: Location | None) -> Any:
    if path is not None:
        write(figure, check_path("path", path))
    elif in_notebook():
        show(figure, None)
        return None
    return figure


@styled
def write(figure: Any, path: Location) -> None:
    """Save a picture, replacing an old one only when the new one is complete."""
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    kind = place.suffix.removeprefix(".") or "png"
    require(kind in figure.canvas.get_supported_filetypes(), "path", path, "a picture: .png, .svg or .pdf")
    with replacing(place) as stream:
        figure.savefig(stream, format=kind, dpi=DOTS_PER_INCH, metadata={"Date": None} if kind == "svg" else None)


def in_notebook() -> bool:
    return hasattr(shell(), "kernel")


@styled
def show(figure: Any, place: Any) -> Any:
    """Show a picture as output of the notebook's cell, or in the place of an earlier one; returns its place."""
    from IPython.display import Image, display

    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DOTS_PER_INCH)
    picture = Image(content.getvalue(), width=round(figure.get_figwidth() * 96))
    if place is None:
        return display(picture, display_id=True)
    place.update(picture)
    return place
