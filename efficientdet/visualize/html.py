"""Self-contained HTML reports: Jinja2 templates, pictures embedded, no file beside them.

A report's template extends `base.html`, which brings the style sheet and the table of contents.
"""

import base64
import io
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def render(template_name: str, **context: Any) -> str:
    """The HTML text of a template in this package's `templates` folder.

    Every value is escaped; a name the template uses but `context` lacks is an error. Templates have
    the filters `thousands` (12345 -> 12,345) and `percent` (0.1234 -> 12.3 %).

    Raises:
        jinja2.TemplateNotFound, jinja2.UndefinedError: a mistake in the program, not of its user.
    """
    return _environment().get_template(template_name).render(**context)


def image_uri(image: np.ndarray, *, quality: int | None = 85) -> str:
    """A `data:` URI of a uint8 [H, W, 3] image: JPEG of that quality, or PNG when it is None."""
    buffer = io.BytesIO()
    picture = Image.fromarray(np.asarray(image, np.uint8))
    if quality is None:
        picture.save(buffer, "PNG", optimize=True)
        return _data_uri(buffer, "png")
    picture.save(buffer, "JPEG", quality=quality)
    return _data_uri(buffer, "jpeg")


def figure_png(figure: "Figure", *, dpi: int = 110) -> str:
    """A `data:` URI of a matplotlib figure, cropped to what is drawn on it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight")
    return _data_uri(buffer, "png")


def _data_uri(buffer: io.BytesIO, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("efficientdet.visualize"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["thousands"] = lambda number: f"{number:,}"
    environment.filters["percent"] = lambda share: f"{share:.1%}".replace("%", " %")
    return environment
