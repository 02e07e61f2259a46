"""Personal data in texts: what can be found without any language model, and which of it the original holds too.

Numbers, addresses of e-mail and the like betray themselves by their form, and Presidio's patterns find them. Names do
not; they are found because the user says which names to look for, as columns of the original usually do.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from leakpro_nb.attacks.synthetic.base import Attempts, Contest
from leakpro_nb.errors import InputError

__all__ = ["contest", "copied", "find", "masked", "normalise", "phrases", "words"]

CERTAINTY = 0.4
"""Presidio's certainty from which a pattern counts, 1 where a checksum is right; many vague patterns fall below it."""

KNOWN_CERTAINTY = 0.9
"""Where known values stand among these: a name within an address of e-mail belongs to the address."""

PIECE, OVERLAP = 20_000, 200
"""Characters of long texts that are read at once, and those that two pieces share."""

LONGEST_KNOWN = 12
"""Words of a known value at most; longer ones are found as shared phrases."""

SHORTEST_KNOWN = 3
"""Letters and digits of a known value at least; shorter ones occur everywhere."""

_WORD = re.compile(r"[^\W_](?:[\w\u0300-\u036f'’])*")
_MARKUP = re.compile(r"</?[a-zA-Z][^<>@]{0,500}>|&(?:[a-zA-Z]{2,8}|#\d{1,6});")
_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {month: str(i) for i, month in enumerate(_MONTH_NAMES, 1)}
_TELLING = re.compile(r"[\d@]")
_MONTH = rf"(?:{'|'.join(_MONTHS)})[a-z]*"
_ALONE = r"(?<![\w.,:+/-])(?<!\d )(?<!\) )"
_DIALLED = r"\d{1,3}(?:[ ./-]?\(?\d{1,4}\)?){2,6}(?!\w)"
_OWN = (
    # Presidio's own recogniser of telephone numbers takes countries one by one, most of the time, and "120/80" for one
    ("PHONE_NUMBER", 1.0, (rf"{_ALONE}\+{_DIALLED}",)),
    (
        "PHONE_NUMBER",
        CERTAINTY,
        (
            rf"{_ALONE}00(?=[1-9]){_DIALLED}",
            rf"{_ALONE}\(?0?\d{{2,3}}\)?[ ./-]{{1,2}}\d{{2,4}}(?:[ ./-]?\d{{2,4}}){{1,4}}(?!\w)",
        ),
    ),
    ("DATE_TIME", 0.6, (rf"\b\d{{1,2}}(?:st|nd|rd|th)?\.? (?:of )?{_MONTH}\.?,? \d{{4}}\b",)),
    ("DATE_TIME", 0.6, (rf"\b{_MONTH}\.? \d{{1,2}}(?:st|nd|rd|th)?,? \d{{4}}\b",)),
    (
        "LONG_NUMBER",
        CERTAINTY,
        (r"(?<![\w.,:+/-])(?=(?:[A-Z-]*\d){5})[A-Z0-9-]{5,39}[A-Z0-9](?![\w-])",),
    ),
)
# Those of Presidio's recognisers that are sure of what they name: by a check digit and a form of its own. Most of the
# others take any number of the right length for the passport of some country; LONG_NUMBER finds these numbers too.
_SHIPPED = (
    "CreditCard",
    "Crypto",
    "Date",
    "EsNie",
    "EsNif",
    "FiPersonalIdentityCode",
    "Iban",
    "InAadhaar",
    "Ip",
    "ItFiscalCode",
    "KrRrn",
    "MacAddress",
    "PlPesel",
    "SePersonnummer",
    "UkNino",
    "UsSsn",
    "Uuid",
)
_FEWEST = {"PHONE_NUMBER": 7}


def find(
    texts: Sequence[Any],
    known: Mapping[str, Iterable[Any]] | None = None,
    *,
    patterns: bool = True,
) -> Any:
    """Return the personal data in texts, one row per place: ``text, start, end, kind, value, normalised``.

    Parameters
    ----------
    texts
        Texts; missing ones (``None``, NaN) count as empty. Markup and HTML entities are read as spaces.
    known
        Kind, for example ``"name"``, to values that are looked for word by word whatever their case, accents and
        punctuation; names in either order, numbers whatever their grouping. Words are told apart by spaces and
        punctuation, so that names in languages without spaces are not found.
    patterns
        Whether what has a telling form is looked for: addresses of e-mail, numbers of telephones, accounts, cards and
        computers, dates, national ids of nine countries, and any other word of at least 6 letters and digits, 5 of
        them digits. Needs the extra ``text``.

    Returns
    -------
    DataFrame
        ``text`` is the text's place in ``texts``, ``start`` and ``end`` count characters. Where findings overlap, the
        surer one counts, then the longer one. Equal ``normalised`` means the same item.

    Raises
    ------
    InputError
        Something that is not a text, or the extra is missing.

    Source: Presidio, https://github.com/microsoft/presidio, its recognisers by pattern and checksum.
    """
    import pandas as pd

    recognisers = _recognisers() if patterns else ()
    names = _Known.of(known or {})
    rows = []
    for i, text in enumerate(_cleaned(texts)):
        spans = [(KNOWN_CERTAINTY, *span) for span in names.spans(text)] + _patterns(recognisers, text)
        for start, end, kind in sorted(_apart(spans)):
            key = normalise(kind, text[start:end])
            if len(key) >= _FEWEST.get(kind, SHORTEST_KNOWN):
                rows.append((i, start, end, kind, text[start:end], key))
    return pd.DataFrame(rows, columns=["text", "start", "end", "kind", "value", "normalised"])


def normalise(kind: str, value: Any) -> str:
    """Return the form in which two ways to write an item are equal.

    The kind decides (``"mail"``, ``"phone"``, ``"date"`` or ``"birth"`` in it). Addresses of e-mail by case; dates by their numbers in any order (the third of December then equals the twelfth of
    March); telephone numbers by their last 9 digits, as the prefix may be missing; other numbers by their digits but
    for leading zeros; everything else with a digit by its letters and digits; words by themselves, in any order.

    >>> normalise("name", "Núñez, Ana-María"), normalise("PHONE_NUMBER", "+46 (0)70-123 45 67")
    ('ana maria nunez', '701234567')
    """
    text = unicodedata.normalize("NFKC", str(value)).strip()
    if "mail" in kind.casefold():
        return text.casefold()
    if kind == "DATE_TIME" or re.search("date|birth", kind.casefold()):
        parts = re.findall(r"\d+|[^\W\d_]+", text.casefold())
        numbers = [_MONTHS.get(part[:3], part).lstrip("0") for part in parts]
        return "date " + " ".join(sorted(number for number in numbers if number.isdigit()))
    folded = words(text)
    squeezed = "".join(folded)
    if "phone" in kind.casefold():
        return re.sub(r"\D", "", squeezed)[-9:]
    if kind == "IP_ADDRESS":
        return text.casefold()
    if squeezed.isdigit():
        return squeezed.lstrip("0")
    return squeezed if any(c.isdigit() for c in squeezed) else " ".join(sorted(folded))


def words(text: str) -> list[str]:
    """Return the words of a text without case, accents and punctuation.

    >>> words("Anna's Åsa-Lena O’Hara!")
    ['anna', 'asa', 'lena', 'ohara']
    """
    return [fold for word in _WORD.findall(text) if (fold := _fold(word))]


def masked(value: str) -> str:
    """Return the first character and the length, which is all that a report shows of an item.

    >>> masked("Anna Svensson")
    'A… (13 characters)'
    """
    return f"{value[:1]}… ({len(value)} characters)"


def phrases(texts: Sequence[Any], length: int = 8) -> list[list[int]]:
    """Return per text the fingerprints of every ``length`` words that stand side by side, in their order.

    They compare within one process only: they are Python's salted hashes, equal by accident once in 10^19 pairs.
    """
    read = (words(text) for text in _cleaned(texts))
    return [[hash(tuple(text[i : i + length])) for i in range(len(text) - length + 1)] for text in read]


def copied(text: Sequence[int], source: set[int], length: int = 8) -> int:
    """Return the words of the longest stretch in which every ``length`` words side by side stand in the source.

    Parameters
    ----------
    text
        Fingerprints of one text, from ``phrases``.
    source
        Fingerprints of all texts that it may have been copied from.
    """
    longest = run = 0
    for phrase in text:
        run = run + 1 if phrase in source else 0
        longest = max(longest, run)
    return longest + length - 1 if longest else 0


def contest(
    original: Sequence[set[Any]],
    synthetic: Sequence[set[Any]],
    control: Sequence[set[Any]] | None = None,
    *,
    seed: int = 0,
) -> Contest:
    """Return of which original and control documents something stands in the synthetic documents.

    What an original document shares with a control document points to nobody and does not count, nor does what a
    control document shares with an original one. Both are held against the same number of documents of the other
    side, drawn at random, so that neither is favoured by the size of the other.

    Parameters
    ----------
    original, synthetic, control
        Per document what it holds: normalised items, or fingerprints of phrases.
    seed
        Decides which documents of the larger side are held against the smaller one.
    """
    stands = set().union(*synthetic)

    def attempts(documents: Sequence[set[Any]], others: Sequence[set[Any]]) -> Attempts:
        common = set().union(*others)
        telling = [frozenset(document - common) for document in documents]
        hit = [not stands.isdisjoint(document) for document in telling]
        # documents that hold the same stand or fall together
        alike: dict[frozenset[Any], int] = {}
        record = [alike.setdefault(document, len(alike)) if document else -1 for document in telling]
        return Attempts(np.array(hit, dtype=np.float64), np.array(record, dtype=np.int64))

    if not control:
        return Contest(attempts(original, []))
    rng = np.random.default_rng(seed)
    size = min(len(original), len(control))
    drawn = [[side[i] for i in rng.permutation(len(side))[:size]] for side in (original, control)]
    return Contest(attempts(original, drawn[1]), attempts(control, drawn[0]))


@lru_cache(maxsize=100_000)
def _fold(word: str) -> str:
    parts = unicodedata.normalize("NFKD", re.sub(r"['’]s$", "", word)).casefold()
    return "".join(c for c in parts if c.isalnum())


def _cleaned(texts: Sequence[Any]) -> Iterator[str]:
    """Yield the texts, markup blanked so that every character keeps its place."""
    import pandas as pd

    if isinstance(texts, (str, bytes)):
        raise InputError("texts", "one text", "give a list of texts, one per document")
    for i, text in enumerate(texts):
        if isinstance(text, str):
            yield _MARKUP.sub(lambda found: " " * len(found[0]), text)
        elif pd.api.types.is_scalar(text) and pd.isna(text):
            yield ""
        else:
            raise InputError(f"texts[{i}]", type(text).__name__, "give texts only; missing ones may be None")


def _apart(spans: Sequence[tuple[float, int, int, str]]) -> Iterator[tuple[int, int, str]]:
    """Yield the spans that remain when of any that overlap the surest stays, then the longest, then the first."""
    taken: list[tuple[int, int]] = []
    for _, start, end, kind in sorted(spans, key=lambda s: (-s[0], s[1] - s[2], s[1], s[3])):
        at = bisect(taken, (start, end))
        if (at == 0 or taken[at - 1][1] <= start) and (at == len(taken) or end <= taken[at][0]):
            taken.insert(at, (start, end))
            yield start, end, kind


@dataclass(frozen=True)
class _Known:
    """Values to look for, by their words and, where they hold digits, by their letters and digits alone."""

    kinds: Mapping[str, str]
    numbers: Mapping[str, str]
    begins: frozenset[str]
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, known: Mapping[str, Iterable[Any]]) -> _Known:
        import pandas as pd

        kinds: dict[str, str] = {}
        numbers: dict[str, str] = {}
        begins: set[str] = set()
        lengths: set[int] = set()
        for kind, values in known.items():
            if isinstance(values, (str, bytes)):
                raise InputError("known", kind, "give a list of values for each kind, not one text")
            for value in values:
                if pd.isna(value):
                    continue
                folded = words(str(value))
                squeezed = "".join(folded)
                if len(squeezed) < SHORTEST_KNOWN:
                    continue
                if any(c.isdigit() for c in squeezed):
                    numbers[squeezed] = str(kind)
                elif len(folded) <= LONGEST_KNOWN:
                    kinds[" ".join(sorted(folded))] = str(kind)
                    begins.update(folded)
                    lengths.add(len(folded))
        return cls(kinds, numbers, frozenset(begins), tuple(sorted(lengths, reverse=True)))

    def spans(self, text: str) -> Iterator[tuple[int, int, str]]:
        """Yield ``start, end, kind`` of every known value in a text."""
        if not self.kinds and not self.numbers:
            return
        found = [(match.start(), match.end(), fold) for match in _WORD.finditer(text) if (fold := _fold(match[0]))]
        first = {number[0] for number in self.numbers}
        longest = max(map(len, self.numbers), default=0)
        for i, (start, _, word) in enumerate(found):
            if word in self.begins:
                for n in self.lengths:
                    window = found[i : i + n]
                    kind = self.kinds.get(" ".join(sorted(w for _, _, w in window))) if len(window) == n else None
                    if kind:
                        yield start, window[-1][1], kind
                        break
            if word[0] in first:
                squeezed = ""
                for _, end, part in found[i : i + LONGEST_KNOWN]:
                    squeezed += part
                    if len(squeezed) > longest:
                        break
                    if squeezed in self.numbers:
                        yield start, end, self.numbers[squeezed]


def _patterns(recognisers: Sequence[Any], text: str) -> list[tuple[float, int, int, str]]:
    """Return ``certainty, start, end, kind`` of what the recognisers find, long texts read in pieces."""
    found = set()
    for offset in range(0, max(1, len(text) - OVERLAP), PIECE - OVERLAP):
        piece = text[offset : offset + PIECE]
        if not _TELLING.search(piece):
            continue
        # what begins in the second half of the overlap is the next piece's, which has its end for sure
        first = OVERLAP // 2 if offset else 0
        last = len(piece) - OVERLAP // 2 if offset + PIECE < len(text) else len(piece)
        for recogniser in recognisers:
            for hit in recogniser.analyze(piece, recogniser.supported_entities):
                if hit.score >= CERTAINTY and first <= hit.start < last:
                    found.add((float(hit.score), offset + hit.start, offset + hit.end, str(hit.entity_type)))
    return sorted(found)


@lru_cache(maxsize=1)
def _recognisers() -> tuple[Any, ...]:
    """Return Presidio's recognisers by pattern, and our own; none of them asks a model or the net."""
    try:
        from presidio_analyzer import Pattern, PatternRecognizer
        from presidio_analyzer import predefined_recognizers as ready
    except ModuleNotFoundError as error:
        raise InputError("patterns", f"{error.name} is not installed", 'run: pip install "leakpro-nb[text]"') from error

    class Email(ready.EmailRecognizer):
        def validate_result(self, pattern_text: str) -> bool:  # noqa: ARG002
            """Take every domain: Presidio would ask the net for a list of them."""
            return True

    own = [
        PatternRecognizer(supported_entity=kind, patterns=[Pattern(kind, pattern, score) for pattern in patterns])
        for kind, score, patterns in _OWN
    ]
    return (Email(), *own, *(getattr(ready, f"{name}Recognizer")() for name in _SHIPPED))
