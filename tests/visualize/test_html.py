"""Reports stand alone, and no text from the data can break them."""

import base64
import io

import jinja2
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from efficientdet.visualize import html


def decode(uri: str) -> Image.Image:
    head, data = uri.split(",", 1)
    assert head.endswith(";base64")
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_base_page_needs_no_other_file():
    page = html.render("base.html")
    assert page.startswith("<!doctype html>")
    assert not any(word in page for word in ("http:", "https:", "src=", "<script", "@import"))


@pytest.fixture
def template():
    """Renders a template text with the environment of the reports."""

    def render(text: str, **context) -> str:
        return html._environment().from_string(text).render(**context)

    return render


def test_values_are_escaped(template):
    assert "<script>" not in template("{{ name }}", name="<script>alert(1)</script>")


def test_a_missing_value_is_an_error(template):
    with pytest.raises(jinja2.UndefinedError):
        template("{{ nothing }}")


def test_filters(template):
    assert template("{{ 12345|thousands }} {{ 0.1234|percent }}") == "12,345 12.3 %"


def test_a_report_extends_the_base(template):
    page = template(
        "{% extends 'base.html' %}{% block title %}{{ t }}{% endblock %}"
        "{% block content %}<p>body</p>{% endblock %}",
        t="a < b",
    )
    assert (
        "<title>a &lt; b</title>" in page and "<h1>a &lt; b</h1>" in page and "<p>body</p>" in page
    )


def test_images_survive_the_uri():
    image = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
    np.testing.assert_array_equal(np.asarray(decode(html.image_uri(image, quality=None))), image)
    assert decode(html.image_uri(image)).size == (12, 8)


def test_figure_becomes_a_png():
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([0, 1])
    assert decode(html.figure_png(figure)).format == "PNG"
