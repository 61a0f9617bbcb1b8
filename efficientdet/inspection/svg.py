"""Plots as inline SVG: they take the colours of the page, light or dark, and its font."""

import io
import re
import warnings
from collections.abc import Callable

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK, LINE = "#010203", "#040506"  # stand for the page's colours of text and of thin lines
_PAGE = {INK: "currentColor", LINE: "var(--line)"}
_STYLE = {
    "svg.fonttype": "none",
    "font.size": 8.5,
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    **dict.fromkeys(("axes.edgecolor", "hatch.color"), INK),
}


def inline(paint: Callable[[Axes], None], height: float = 2.7, width: float = 5.4) -> Markup:
    """An <svg> as wide as its place, of what `paint` draws; `height`, `width` in inches."""
    with rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the page's font has it
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot(facecolor="none")
        axes.spines[["top", "right"]].set_visible(False)
        paint(axes)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True)
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", buffer.getvalue(), flags=re.S)
    svg = svg[svg.index("<svg ") :].replace('<g id="', '<g data-part="')  # one id, one page
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", svg)
    svg = svg.replace("<svg ", '<svg style="overflow: visible" ', 1)  # the page's font may be wider
    for colour, of_page in _PAGE.items():
        svg = svg.replace(colour, of_page)
    return Markup(svg)
