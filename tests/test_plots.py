"""What is drawn: curves by part, whole epochs, wrong predictions in red, files; and that matplotlib is not needed."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
from refusals import check_refusal

import graphc as gx
from graphc import plots

HISTORY = gx.History(
    [{"loss": 1 / n, "accuracy": 1 - 1 / n, "val_loss": 2 / n, "val_accuracy": 1 - 2 / n} for n in (1, 2, 3, 4)]
)


def test_history_has_a_panel_for_each_quantity():
    loss, accuracy = plots.plot_history(HISTORY).axes
    assert [loss.get_title(), accuracy.get_title()] == ["loss", "accuracy"]
    for panel, name in ((loss, "loss"), (accuracy, "accuracy")):
        training, validation = panel.lines
        assert [training.get_label(), validation.get_label()] == ["training", "validation"]
        np.testing.assert_array_equal(training.get_xdata(), [1, 2, 3, 4])
        np.testing.assert_array_equal(training.get_ydata(), HISTORY[name])
        np.testing.assert_array_equal(validation.get_ydata(), HISTORY[f"val_{name}"])
        assert training.get_color() != validation.get_color() and training.get_linestyle() != validation.get_linestyle()
        assert all(tick == round(tick) for tick in panel.get_xticks())


def test_history_without_validation_and_without_epochs():
    (panel,) = plots.plot_history(gx.History([{"loss": 1.0}])).axes
    assert len(panel.lines) == 1 and panel.get_legend() is None
    assert plots.plot_history(gx.History()).axes


def test_live_plot_saves_after_every_epoch(tmp_path):
    path = tmp_path / "new" / "curves.svg"
    live = plots.LivePlot(path)
    live.before_training(None)
    pictures = []
    for epoch, row in enumerate(HISTORY.rows, 1):
        assert live.after_epoch(epoch, row) is False
        pictures.append(path.read_bytes())
    assert len(set(pictures)) == 4 and all(picture.endswith(b"</svg>\n") for picture in pictures)
    plots.plot_history(HISTORY, tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_bytes() == pictures[-1]  # equal pictures are equal files


def test_live_plot_in_fit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    w = gx.parameter("w", np.float32(1))

    @gx.step
    def step(x: gx.f32["n"]):
        loss = ((x - w) ** 2).mean()
        loss.backward()
        w.sub_(0.1 * w.grad)
        return {"loss": loss}

    loader = gx.data.DataLoader(gx.data.TensorDataset(np.zeros(8, np.float32)), batch_size=4)
    gx.fit(step, loader, epochs=2, callbacks=[plots.LivePlot()])
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_curves_and_points():
    x = np.linspace(0, 1, 50)
    (panel,) = plots.plot_curves({"a": (x, x), "b": (x, x**2)}, points=(x, x + 0.1), ylabel="y", yscale="log").axes
    assert [line.get_label() for line in panel.lines] == ["data", "a", "b"]
    assert panel.get_yscale() == "log" and panel.get_ylabel() == "y"
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["data", "a", "b"]


def test_boundary_lies_where_the_score_is_zero():
    points = np.array([[-1, 0], [1, 0], [0, 2.0]])
    (panel,) = plots.plot_boundary(points, [0, 1, 1], lambda x: x[:, 0] - 0.5, levels=[0.0, 1.0]).axes
    (lines,) = panel.collections
    zero, _ = lines.get_paths()
    np.testing.assert_allclose(zero.vertices[:, 0], 0.5, atol=1e-6)
    assert [len(line.get_xdata()) for line in panel.lines] == [1, 2]


def test_images_are_titled_and_wrong_ones_are_red():
    images = np.zeros((3, 1, 28, 28), np.uint8)
    right, wrong, _ = plots.show_images(images, [0, 1, 1], np.array([0, 0, 1]), classes=["coat", "bag"], columns=3).axes
    assert right.get_title() == "coat\n→ coat" and wrong.get_title() == "bag\n→ coat"
    assert wrong.title.get_color() == plots.RED != right.title.get_color()


@pytest.mark.parametrize("shape", [(2, 8, 8), (2, 1, 8, 8), (2, 8, 8, 1)])
def test_grey_images(shape):
    numbers = np.linspace(0, 1, 128, dtype=np.float32).reshape(shape)
    first, _ = plots.show_images(numbers).axes
    np.testing.assert_array_equal(first.images[0].get_array(), numbers[0].reshape(8, 8))
    assert first.images[0].get_clim() == (0, 1)


def test_colour_images_and_numbers_outside_of_0_to_1():
    channels_first = np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 4, 4)
    first, _ = plots.show_images(channels_first).axes
    np.testing.assert_array_equal(first.images[0].get_array(), channels_first[0].transpose(1, 2, 0))
    stretched = plots.show_images(np.array([[[-2.0, 0.0], [2.0, 1.0]]])).axes[0].images[0].get_array()
    np.testing.assert_array_equal(stretched, [[0, 0.5], [1, 0.75]])


def test_what_is_no_image_is_refused():
    with pytest.raises(gx.ShapeError, match=r"shape \(5, 784\)"):
        plots.show_images(np.zeros((5, 784)))
    with pytest.raises(gx.ShapeError, match="2 images and 3 predictions"):
        plots.show_images(np.zeros((2, 8, 8)), [1, 2], [1, 2, 3])
    with pytest.raises(gx.ShapeError, match=r"points \(4, 3\) and 4 labels"):
        plots.plot_boundary(np.zeros((4, 3)), [0, 1, 0, 1], lambda x: x[:, 0])
    with pytest.raises(gx.ShapeError, match=r"score gives shape \(90000, 2\) for 90000 points"):
        plots.plot_boundary(np.eye(4, 2), [0, 1, 0, 1], lambda x: x)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: plots.plot_history(3), "history is 3; it must be what gx.fit returns"),
        (lambda: plots.plot_curves([1, 2]), "curves is [1, 2]; it must be a dictionary"),
        (
            lambda: plots.plot_curves({"a": ([1, 2], [1])}),
            "a is ([1, 2], [1]); it must be a pair (x, y) of equally long",
        ),
        (lambda: plots.plot_curves({}, yscale="sqrt"), "yscale is 'sqrt'; it must be one of 'linear', 'log'"),
        (lambda: plots.plot_curves({}, 3), "path is 3; it must be a path"),
        (lambda: plots.plot_curves({}, "curves.xyz"), "it must be a picture: .png, .svg or .pdf"),
        (
            lambda: plots.plot_boundary(np.zeros((4, 2)), np.zeros(4), 3),
            "score is 3; it must be a function of 1 argument",
        ),
        (
            lambda: plots.plot_boundary(np.zeros((2, 2)), ["a", "b"], abs),
            "labels is ['a', 'b']; it must be a list of num",
        ),
        (
            lambda: plots.plot_boundary(np.zeros((7, 2)), range(7), abs),
            "labels is range(0, 7); it must be of at most six",
        ),
        (lambda: plots.show_images(np.zeros((2, 4, 4)), 3), "labels is 3; it must be a list"),
        (lambda: plots.show_images(np.zeros((1, 4, 4)), [1], classes=["a"]), "a label is 1; it must be the number of"),
        (lambda: plots.show_images(np.zeros((2, 4, 4)), columns=0), "columns is 0; it must be a whole number"),
        (lambda: plots.LivePlot(3), "path is 3"),
    ],
)
def test_wrong_arguments(call, words):
    check_refusal(call, words)


def test_without_matplotlib_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(gx.GraphcError, match="matplotlib") as caught:
        plots.plot_history(HISTORY)
    assert "pip install 'graphc[viz]'" in str(caught.value)
    with pytest.raises(gx.GraphcError, match="matplotlib"):
        plots.LivePlot()


class Output:
    """Stands in for a notebook's display: what it was given, and what took its place."""

    def __init__(self):
        self.pictures = []

    def display(self, picture, display_id=False):
        self.pictures.append(picture)
        return self

    update = display


def test_notebook_draws_over_the_same_place(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    output = Output()
    notebook = types.ModuleType("IPython")
    notebook.version_info = (9, 0)  # matplotlib looks
    notebook.get_ipython = lambda: types.SimpleNamespace(kernel=True)
    notebook.display = types.ModuleType("IPython.display")
    notebook.display.Image, notebook.display.display = lambda content, width: content, output.display
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    monkeypatch.setitem(sys.modules, "IPython.display", notebook.display)
    live = plots.LivePlot()
    for epoch, row in enumerate(HISTORY.rows[:2], 1):
        live.after_epoch(epoch, row)
    assert live.place is output
    assert plots.plot_history(HISTORY) is None
    assert len(output.pictures) == 3 and all(picture.startswith(b"\x89PNG") for picture in output.pictures)
    assert not list(tmp_path.iterdir())
