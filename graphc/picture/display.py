"""Texts and bytes of pictures that a notebook shows as what they are."""

from __future__ import annotations

from html import escape

HEIGHT = 640  # pixels of a page inside a notebook


class Drawing(str):
    """The text of an SVG file."""

    __slots__ = ()

    def _repr_svg_(self) -> str:
        return str(self)


class Page(str):
    """The text of an HTML file; in a notebook it has a frame of its own."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        style = f"width: 100%; height: {HEIGHT}px; border: 1px solid #cbd5e1"
        return f'<iframe srcdoc="{escape(self, quote=True)}" style="{style}"></iframe>'


class Raster(bytes):
    """A PNG file."""

    def _repr_png_(self) -> bytes:
        return bytes(self)
