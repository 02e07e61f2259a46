"""Numbers as a report says them."""

from __future__ import annotations

import re

__all__ = ["plain", "share"]


def share(value: float) -> str:
    """Return a share as a percentage with as many digits as it needs; only certainty is written as 0 % or 100 %.

    >>> share(0.5), share(0.2083), share(0.00022), share(0.0)
    ('50 %', '20.8 %', '0.022 %', '0 %')
    >>> share(0.99996), share(4e-7)
    ('over 99.9 %', 'under 0.001 %')
    """
    percent = 100 * value
    if 0 < percent < 0.001:
        return "under 0.001 %"
    if 99.95 <= percent < 100:
        return "over 99.9 %"
    digits = 1 if percent >= 0.1 or percent == 0 else 3
    return f"{percent:.{digits}f} %".replace(".0 %", " %")


def plain(text: object) -> str:
    r"""Return ``text`` so that Markdown shows it as it is, whatever a column or a group is called.

    >>> plain("<5 *or* $x$")
    '&lt;5 \\*or\\* \\$x\\$'
    """
    escaped = re.sub(r"([\\`*_\[\]$#~|])", r"\\\1", str(text).replace("&", "&amp;"))
    return escaped.replace("<", "&lt;").replace(">", "&gt;")
