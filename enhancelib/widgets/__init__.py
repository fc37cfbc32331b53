"""Panels for notebooks: live controls around a paper's pure render function.

Only this package imports ipywidgets and anywidget, and nothing in the library imports it. A paper
writes `render(picture, **values) -> View`; `Panel` adds the photographs, the controls, the picture
with its movable divider, and one line that says what the numbers are. `LossExplorer` does the same
for an `Objective`: its weights under sliders, and what every term says of a picture.
"""

from enhancelib.widgets.controls import Choice, Slider, View
from enhancelib.widgets.curve import Curve
from enhancelib.widgets.divider import BeforeAfter
from enhancelib.widgets.explorer import LossExplorer
from enhancelib.widgets.panel import Panel
from enhancelib.widgets.upload import PhotoUpload

__all__ = [
    "BeforeAfter",
    "Choice",
    "Curve",
    "LossExplorer",
    "Panel",
    "PhotoUpload",
    "Slider",
    "View",
]
