"""Every figure, with its alternative text and a one-sentence reading; one file per template.

The functions ``draw_…`` take and return matplotlib axes. The others return a ``Picture`` that a notebook displays, with
the alternative text where exporters look for it and the reading under it.
"""

from leakpro_nb.plots.base import Picture
from leakpro_nb.plots.membership import (
    another_model,
    draw_exposures,
    draw_models,
    draw_power,
    draw_roc,
    draw_scores,
    exposures,
    power,
    roc,
    scores,
)

__all__ = [
    "Picture",
    "another_model",
    "draw_exposures",
    "draw_models",
    "draw_power",
    "draw_roc",
    "draw_scores",
    "exposures",
    "power",
    "roc",
    "scores",
]
