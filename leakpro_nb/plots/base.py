"""What all figures share: a picture with its words, axes, and colours."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["COLOURS", "STYLES", "Picture", "cycle", "new_axes"]

# Okabe and Ito's palette: told apart by colour-blind readers; line styles tell them apart in grey print
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
STYLES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))


@dataclass(frozen=True)
class Picture:
    """One figure, what it shows in words for those who do not see it, and how to read it."""

    axes: Axes
    alt: str
    reading: str

    def svg(self) -> str:
        """Return the figure as SVG; the same figure gives the same text."""
        import matplotlib as mpl

        buffer = io.StringIO()
        figure: Any = self.axes.figure
        with mpl.rc_context({"svg.hashsalt": "leakpro-nb", "svg.fonttype": "path"}):
            figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
        return buffer.getvalue()

    def _ipython_display_(self) -> None:
        from IPython.display import Markdown, display

        bundle = {"image/svg+xml": self.svg(), "text/plain": self.alt}
        alt = {"alt": self.alt}
        display(bundle, raw=True, metadata={**alt, "image/svg+xml": alt})
        display(Markdown(self.reading))


def new_axes(width: float = 6.3, height: float = 3.6) -> Axes:
    """Return axes of a new figure (inches) that no global state keeps alive."""
    from matplotlib.figure import Figure

    axes = Figure(figsize=(width, height), layout="constrained").add_subplot()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(visible=True, color="#e5e5e5", linewidth=0.6)
    axes.set_axisbelow(True)
    return axes


def cycle(items: Sequence[Any], n: int) -> list[Any]:
    """Return ``n`` items, beginning again when there are no more."""
    return [items[i % len(items)] for i in range(n)]
