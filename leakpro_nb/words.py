"""Numbers as a report says them."""

from __future__ import annotations

__all__ = ["share"]


def share(value: float) -> str:
    """Return a share as a percentage with as many digits as it needs.

    >>> share(0.5), share(0.2083), share(0.00022), share(0.0)
    ('50 %', '20.8 %', '0.022 %', '0 %')
    """
    percent = 100 * value
    digits = 1 if percent >= 0.1 or percent == 0 else 3
    return f"{percent:.{digits}f} %".replace(".0 %", " %")
