"""Untrusted text made harmless: characters, terminal output, addresses."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote, urlsplit

__all__ = ["numeric", "printable", "safe_url", "shorten", "terminal"]

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_PROGRESS = re.compile(r"^.*\d{1,3}%\|.*\|.*$|^\d+it \[\d\d:\d\d.*\]$")
# Soft hyphen and the two joiners shape words; every other format character only hides or reorders text.
_JOINERS = frozenset("\u00ad\u200c\u200d")
_DROPPED = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
_NUMBER = re.compile(r"^[\s(\[{<>≤≥≈~±+−–—-]*\d[\d\s.,:;/%±×·+−–—()\[\]{}eExX^-]*(?:(?:of|to|nan)[\d\s.,%]*)?[%)\]]*$")
_NO_VALUE = frozenset({"", "nan", "none", "-", "–", "—", "n/a", "<na>", "nat", "...", "…"})

MAX_LINES = 60
MAX_LINE = 400


def printable(text: str) -> str:
    r"""Drop what cannot be printed or would reorder or hide what is printed.

    Examples
    --------
    >>> printable("safe\x00\u202e")
    'safe'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char for char in text if char in "\n\t" or char in _JOINERS or unicodedata.category(char) not in _DROPPED
    )


def shorten(text: str, limit: int) -> str:
    """Cut ``text`` to at most ``limit`` characters, with an ellipsis where it was cut.

    Examples
    --------
    >>> shorten("abcdef", 4)
    'abc…'
    """
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def terminal(text: str) -> tuple[str, int]:
    r"""Return what a terminal would show in the end, bounded, and how many lines were left out.

    Examples
    --------
    >>> terminal("\x1b[31mred\x1b[0m\n 10%|#   | 1/10\rdone\n")
    ('red\ndone', 0)
    """
    lines = [_overwritten(line) for line in _ANSI.sub("", text).replace("\r\n", "\n").split("\n")]
    lines = [shorten(printable(line).rstrip(), MAX_LINE) for line in lines]
    lines = [line for line in lines if not _PROGRESS.match(line)]
    while lines and not lines[-1]:
        lines.pop()
    while lines and not lines[0]:
        lines.pop(0)
    return "\n".join(lines[:MAX_LINES]), max(len(lines) - MAX_LINES, 0)


def _overwritten(line: str) -> str:
    """Apply carriage returns and backspaces the way a terminal does, roughly."""
    return line.rstrip("\r").rpartition("\r")[2].replace("\b", "")


def safe_url(url: str) -> str | None:
    r"""Return ``url`` ready for printing if it leads to the web or to a mailbox, else ``None``.

    Examples
    --------
    >>> safe_url("java\tscript:alert(1)") is None
    True
    >>> safe_url("https://example.org/a b")
    'https://example.org/a%20b'
    """
    url = "".join(char for char in printable(url) if char not in "\n\t").strip()
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    is_web = parts.scheme in {"http", "https"} and parts.netloc
    is_mail = parts.scheme == "mailto" and parts.path
    if not (is_web or is_mail) or len(url) > 2000:
        return None
    return quote(url, safe="%/:=&?~#+!$,;'@()*[]")


def numeric(text: str) -> bool | None:
    """Say whether ``text`` reads as a number; ``None`` when it stands for a missing value.

    Examples
    --------
    >>> numeric("0.52 [0.48, 0.57]"), numeric("ward 7"), numeric("NaN")
    (True, False, None)
    """
    text = text.strip()
    if text.lower() in _NO_VALUE:
        return None
    return len(text) <= 60 and bool(_NUMBER.match(text))
