"""Synthetic texts: do they hold personal data of real people in the original?

from leakpro_nb.audits import synthetic_text
synthetic_text.scan(original, synthetic, control, known={"name": names}, known_control={"name": other_names})
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np

from leakpro_nb.attacks.synthetic.text_scan import contest, copied, find, masked, normalise, phrases
from leakpro_nb.audits.common import check_count, check_seed
from leakpro_nb.errors import InputError
from leakpro_nb.game.tables import SyntheticRelease
from leakpro_nb.measures.residual import Rate, Residual, holm, rate, residual_risk
from leakpro_nb.words import plain, share

__all__ = ["Finding", "TextScan", "in_a_sentence", "in_words", "scan", "scan_release", "text_columns"]

Known = Any
"""Kind to values, or a DataFrame with a column per kind and a row per text."""

CHANCE_KINDS = frozenset({"DATE_TIME"})
"""Kinds that many people share by chance; they stand in the table but not in its first line."""

HEADLINE, VERBATIM = "any personal data", "copied phrases"

FEWEST_WORDS = 5
"""Words on average from which a column of strings counts as text."""

SHOWN = 20
"""Places that the displayed table lists; ``leaks`` has them all."""

_HEAD = (
    "What",
    "Items found",
    "in the original",
    "public",
    "in control texts",
    "leaked",
    "Synthetic texts with a leak",
    "Original texts found again",
    "Control texts found again",
    "Risk beyond chance",
)

_KINDS = {
    "CREDIT_CARD": "card number",
    "CRYPTO": "cryptocurrency address",
    "DATE_TIME": "date",
    "EMAIL_ADDRESS": "e-mail address",
    "ES_NIE": "Spanish foreigner's number",
    "ES_NIF": "Spanish identity number",
    "FI_PERSONAL_IDENTITY_CODE": "Finnish identity code",
    "IBAN_CODE": "bank account",
    "IN_AADHAAR": "Indian identity number",
    "IP_ADDRESS": "internet address",
    "IT_FISCAL_CODE": "Italian tax code",
    "KR_RRN": "Korean registration number",
    "LONG_NUMBER": "other number",
    "MAC_ADDRESS": "hardware address",
    "PHONE_NUMBER": "telephone or similar number",
    "PL_PESEL": "Polish identity number",
    "SE_PERSONNUMMER": "Swedish identity number",
    "UK_NINO": "British insurance number",
    "US_SSN": "US social security number",
    "UUID": "record identifier",
}


@dataclass(frozen=True)
class Finding:
    """What was found of one kind of personal data.

    Parameters
    ----------
    kind
        As ``find`` calls it, ``HEADLINE`` for all kinds but those that people share by chance, or ``VERBATIM``.
    found, matched, public, common, leaked
        Numbers of different items: in the synthetic texts; of these in the original; of these public; of the others
        also in control texts; and the rest, which nothing but the original explains.
    texts
        Number of synthetic texts with a leaked item.
    share
        The same as a share of all synthetic texts. The interval holds texts together that repeat one original.
    people
        Share of the original documents of which something stands in the synthetic texts and in no control text.
    control
        The same for control documents, in which case chance is the only explanation; ``None`` without them.
    risk
        Residual risk: how far ``people`` exceeds ``control``; ``None`` without control documents to compare.
    p_value
        One-sided, of the residual risk; over all kinds adjusted by Holm's method.
    """

    kind: str
    found: int
    matched: int
    public: int
    common: int
    leaked: int
    texts: int
    share: Rate
    people: Rate
    control: Rate | None = None
    risk: Residual | None = None
    p_value: float | None = None

    @property
    def title(self) -> str:
        """The kind in plain words."""
        return _title(self.kind)


@dataclass(frozen=True)
class TextScan:
    """Personal data of the original in synthetic texts. Displays as a table, without showing any value.

    Parameters
    ----------
    documents
        Numbers of texts: ``original``, ``synthetic``, ``control``.
    findings
        ``HEADLINE`` first, then a kind each, ``VERBATIM`` last.
    leaks
        DataFrame, one row per leaked item and synthetic text: ``text``, ``kind``, ``item`` (first letter and length,
        or the value where records may be revealed), ``original`` (the first original text that holds it, -1 where
        only the list of known values does).
    longest
        (synthetic texts,) words of the longest stretch that was copied from the original, 0 where none was.
    notes
        What a reader should know beside the figures.
    """

    documents: dict[str, int]
    findings: tuple[Finding, ...]
    leaks: Any = field(repr=False)
    longest: np.ndarray = field(repr=False)
    notes: tuple[str, ...] = ()

    def __getitem__(self, kind: str) -> Finding:
        """Return what was found of one kind."""
        for finding in self.findings:
            if finding.kind == kind:
                return finding
        raise KeyError(kind)

    @property
    def table(self) -> Any:
        """DataFrame with a row per kind, shares as numbers."""
        import pandas as pd

        return pd.DataFrame([_row(finding) for finding in self.findings])

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON: all figures, the first leaks as ``leaks`` has them, undefined numbers as ``None``."""
        rows = [
            {"text": int(row.text), "kind": row.kind, "item": row.item, "original": int(row.original)}
            for row in self.leaks.head(SHOWN).itertuples()
        ]
        return {
            "documents": self.documents,
            "findings": [_row(finding) for finding in self.findings],
            "places": len(self.leaks),
            "leaks": rows,
            "longest_copied_words": int(self.longest.max(initial=0)),
            "longest_copied_text": int(self.longest.argmax()) if self.longest.any() else None,
            "notes": list(self.notes),
        }

    @property
    def sentence(self) -> str:
        """The answer in words."""
        return in_a_sentence(self.to_json())

    def _repr_markdown_(self) -> str:
        return in_words(self.to_json())


def in_a_sentence(found: Mapping[str, Any]) -> str:
    """Return the answer in words, from ``TextScan.to_json`` or ``scan_release``."""
    head, documents = found["findings"][0], found["documents"]
    control = " and in no control text" if "control" in documents else ""
    if not head["leaked"]:
        return (
            f"None of {documents['synthetic']:,} synthetic texts holds personal data, as far as it was looked for, "
            f"that stands in the original{control}."
        )
    text = (
        f"{head['texts']:,} of {documents['synthetic']:,} synthetic texts ({_between(head['share'])}) hold personal "
        f"data that stands in the original{control}."
    )
    if head["risk"] is None:
        return f"{text} Without a comparison with control people, how much of it is chance cannot be told."
    text += (
        f" Something is found again of {share(head['people']['value'])} of the original texts, and of "
        f"{share(head['control']['value'])} of the control texts."
    )
    if head["risk"]["low"] is None or head["risk"]["low"] <= 0:
        text += " The difference may be chance."
    return text


def in_words(found: Mapping[str, Any]) -> str:
    """Return the answer, the table and the first texts to look at, from ``TextScan.to_json`` or ``scan_release``."""
    rows = [
        [
            plain(finding["title"]),
            *(f"{finding[count]:,}" for count in ("found", "matched", "public", "common", "leaked")),
            f"{finding['texts']:,} ({_between(finding['share'])})",
            share(finding["people"]["value"]),
            share(finding["control"]["value"]) if finding["control"] else "–",
            _risk(finding["risk"]),
        ]
        for finding in found["findings"]
    ]
    parts = [plain(in_a_sentence(found)), _markdown(_HEAD, rows)]
    if found["longest_copied_words"]:
        parts.append(
            f"The longest stretch copied word for word has {found['longest_copied_words']} words "
            f"(synthetic text {found['longest_copied_text']})."
        )
    if found["leaks"]:
        shown = [
            [
                f"{leak['text']}",
                plain(_title(leak["kind"])),
                plain(leak["item"]),
                f"{leak['original']}" if leak["original"] >= 0 else "–",
            ]
            for leak in found["leaks"]
        ]
        more = f" ({len(shown)} of {found['places']:,} places)" if len(shown) < found["places"] else ""
        parts += [f"Texts to look at{more}:", _markdown(["Synthetic text", "What", "Item", "Original text"], shown)]
    return "\n\n".join([*parts, *(plain(note) for note in found["notes"])])


def scan(
    original_texts: Sequence[Any],
    synthetic_texts: Sequence[Any],
    control_texts: Sequence[Any] | None = None,
    known: Known | None = None,
    public: Iterable[Any] = (),
    *,
    known_control: Known | None = None,
    patterns: bool = True,
    phrase: int = 8,
    reveal_records: bool = False,
    seed: int = 0,
) -> TextScan:
    """Return which personal data of the original stands in synthetic texts.

    Parameters
    ----------
    original_texts, synthetic_texts
        One text per document; missing ones count as empty.
    control_texts
        Texts about people whom the generator never met. What stands in them too is no leak, and how often their own
        items turn up in the synthetic texts is what chance alone does.
    known
        Kind (``"name"``, ``"address"``, ``"record number"``) to values of the original's people: what patterns cannot
        find. Names are found in no other way. A table (DataFrame) with a row per original text also says whose they are.
    public
        Names and other values that anyone may know: public figures, common first names, the hospital's own number.
    known_control
        The same kinds for the control people. Without it these kinds cannot be compared with chance.
    patterns
        Whether to look for what has a telling form too; needs the extra ``text``.
    phrase
        So many words side by side count as copied.
    reveal_records
        Whether ``leaks`` shows the values; otherwise their first letter and length.
    seed
        Decides which texts of the larger side are held against the smaller one when it comes to chance.

    Raises
    ------
    InputError
        No texts, something that is not a text, a table of known values that does not fit, or a missing extra.
    """
    import pandas as pd

    check_seed(seed)
    check_count("phrase", phrase, smallest=3, example=8)
    given = {"original": original_texts, "synthetic": synthetic_texts, "control": control_texts}
    sides = {name: side for name, side in given.items() if side is not None and len(side)}
    for name in ("original", "synthetic"):
        if name not in sides:
            raise InputError(f"{name}_texts", "0 texts", "give at least one text")
    own, others = _lists("known", known), _lists("known_control", known_control)
    looked_for = {kind: own.get(kind, []) + others.get(kind, []) for kind in {**own, **others}}
    places = {name: find(side, looked_for, patterns=patterns) for name, side in sides.items()}

    # one kind per item, whatever it looks like elsewhere
    every = pd.concat([places[name] for name in sides])
    kind_of = dict(zip(every["normalised"][::-1], every["kind"][::-1], strict=True))
    documents = {name: _sets(places[name], len(side)) for name, side in sides.items()}
    _attach("known", known, documents["original"])
    if "control" in sides:
        _attach("known_control", known_control, documents["control"])
    held = set().union(*documents["original"]) | _keys(own)
    in_control = set().union(*documents.get("control", [])) | _keys(others)
    well_known = {normalise(kind, value) for value in public for kind in ("", "mail", "phone")}

    uncompared = set(own) - set(others) if "control" in sides else set()
    kinds = sorted(set(places["synthetic"]["kind"]) | set(places["original"]["kind"]), key=str.casefold)
    findings = []
    for title, members in [(HEADLINE, set(kinds) - CHANCE_KINDS), *((kind, {kind}) for kind in kinds)]:
        items = {key for key, kind in kind_of.items() if kind in members}
        compare = not members & uncompared
        findings.append(_finding(title, items, documents, (held, in_control, well_known), compare, seed))

    runs = {name: phrases(side, phrase) for name, side in sides.items()}
    fingerprints = {name: [set(run) for run in side] for name, side in runs.items()}
    source = set().union(*fingerprints["original"])
    elsewhere = set().union(*fingerprints.get("control", []))
    all_phrases = set().union(*chain.from_iterable(fingerprints.values()))
    findings.append(_finding(VERBATIM, all_phrases, fingerprints, (source, elsewhere, set()), True, seed))
    longest = np.array([copied(run, source - elsewhere, phrase) for run in runs["synthetic"]], dtype=np.int64)

    return TextScan(
        {name: len(side) for name, side in sides.items()},
        _adjusted(findings),
        _leaks(places, held - in_control - well_known, reveal_records),
        longest,
        _notes(sides, own, uncompared, patterns),
    )


def scan_release(
    release: SyntheticRelease,
    columns: Sequence[str] | None = None,
    *,
    known_columns: Sequence[str] = (),
    known: Known | None = None,
    known_control: Known | None = None,
    public: Iterable[Any] = (),
    patterns: bool = True,
    reveal_records: bool = False,
    seed: int = 0,
) -> dict[str, Any] | None:
    """Return the scan of a table's text columns as plain JSON, ``None`` where it has none.

    Parameters
    ----------
    release
        The tables. Texts of one row are one document, numbered by their row.
    columns
        Columns of text; by default those that ``text_columns`` finds.
    known_columns
        Columns of the original and the control whose values are looked for in the texts, for example the name. The
        release leaves out its ``identifiers``; give those through ``known`` and ``known_control``.
    known, known_control, public, patterns, reveal_records, seed
        See ``scan``.

    Raises
    ------
    InputError
        No such column, or see ``scan``.
    """
    columns = text_columns(release) if columns is None else [str(column) for column in columns]
    if not columns:
        return None
    for name in ("original", "synthetic"):
        for column in columns:
            if column not in getattr(release, name).columns:
                raise InputError("columns", column, f"not a column of the {name} table")
    has_control = release.control is not None and set(columns) <= set(release.control.columns)
    if known_columns:
        if known is not None or known_control is not None:
            raise InputError("known_columns", ", ".join(known_columns), "give either these or known, not both")
        for column in known_columns:
            if column not in release.original.columns:
                raise InputError("known_columns", column, "not a column of the original table")
        known = release.original[list(known_columns)]
        if release.control is not None and set(known_columns) <= set(release.control.columns):
            known_control = release.control[list(known_columns)]
    result = scan(
        _joined(release.original, columns),
        _joined(release.synthetic, columns),
        _joined(release.control, columns) if has_control else None,
        known,
        public,
        known_control=known_control if has_control else None,
        patterns=patterns,
        reveal_records=reveal_records,
        seed=seed,
    )
    return {"columns": list(columns), **result.to_json()}


def text_columns(release: SyntheticRelease) -> list[str]:
    """Return the columns that original and synthetic table share and that hold texts, see ``FEWEST_WORDS``."""
    shared = [column for column in release.original.columns if column in release.synthetic.columns]
    filled = {column: release.original[column].dropna() for column in shared}
    texts = {c: v for c, v in filled.items() if len(v) and all(isinstance(value, str) for value in v)}
    return [column for column, values in texts.items() if values.str.split().str.len().mean() >= FEWEST_WORDS]


def _joined(table: Any, columns: Sequence[str]) -> list[str]:
    """Return one text per row."""
    for column in columns:
        odd = [type(v).__name__ for v in table[column].dropna() if not isinstance(v, str)]
        if odd:
            raise InputError(column, odd[0], "this column holds something else than text")
    return ["\n".join(row) for row in table[list(columns)].fillna("").itertuples(index=False)]


def _sets(places: Any, n: int) -> list[set[str]]:
    sets: list[set[str]] = [set() for _ in range(n)]
    for text, key in zip(places["text"], places["normalised"], strict=True):
        sets[text].add(key)
    return sets


def _lists(field: str, known: Any) -> dict[str, list[Any]]:
    """Return the values of every kind, missing ones left out."""
    import pandas as pd

    if known is None:
        return {}
    if not isinstance(known, (Mapping, pd.DataFrame)):
        raise InputError(field, type(known).__name__, "give a table, or a list of values for each kind")
    lists = {}
    for kind, values in known.items():
        if isinstance(values, (str, bytes)):
            raise InputError(f"{field}[{kind!r}]", "one text", "give a list of values")
        each = list(values)
        lists[str(kind)] = [
            value for value, gap in zip(each, pd.isna(np.array(each, dtype=object)), strict=True) if not gap
        ]
    return lists


def _attach(field: str, known: Any, documents: list[set[str]]) -> None:
    """Add what a table says of each document's person to what the document holds."""
    if not hasattr(known, "columns"):
        return
    if len(known) != len(documents):
        raise InputError(field, f"{len(known)} rows", f"a table needs one row for each of the {len(documents)} texts")
    for kind in known.columns:
        for document, value, given in zip(documents, known[kind], known[kind].notna(), strict=True):
            if given and (key := normalise(str(kind), value)):
                document.add(key)


def _keys(known: Mapping[str, Iterable[Any]]) -> set[str]:
    return {normalise(kind, value) for kind, values in known.items() for value in values} - {""}


def _finding(
    kind: str,
    items: set[Any],
    documents: Mapping[str, list[set[Any]]],
    sources: tuple[set[Any], set[Any], set[Any]],
    compare: bool,
    seed: int,
) -> Finding:
    """Return the figures of one kind, given the items of that kind and where items may come from."""
    held, in_control, well_known = sources
    here = set().union(*documents["synthetic"]) & items
    matched = here & held
    known_to_all = matched & well_known
    common = (matched - well_known) & in_control
    leaked = matched - well_known - in_control
    # texts that repeat one original stand or fall together
    owner = {key: i for i, document in reversed(list(enumerate(documents["original"]))) for key in document & leaked}
    hits = [document & leaked for document in documents["synthetic"]]
    record = np.array([min((owner.get(key, -1) for key in hit), default=-1) for hit in hits])
    texts = np.array([bool(hit) for hit in hits], dtype=np.float64)
    of_kind = {
        name: [document & (items - well_known) for document in side]
        for name, side in documents.items()
        if name != "control" or compare
    }
    tried = contest(of_kind["original"], of_kind["synthetic"], of_kind.get("control"), seed=seed)
    attack, control = tried.attack, tried.control
    risk = None
    if control is not None:
        risk = residual_risk(
            attack.success, control.success, attack_record=attack.record, control_record=control.record
        )
    return Finding(
        kind,
        found=len(here),
        matched=len(matched),
        public=len(known_to_all),
        common=len(common),
        leaked=len(leaked),
        texts=int(texts.sum()),
        share=rate(texts, record),
        people=rate(attack.success, attack.record),
        control=risk.control if risk else None,
        risk=risk,
        p_value=risk.p_value if risk else None,
    )


def _adjusted(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return the findings with p-values that allow for all kinds being looked at; the headline stands for itself."""
    tested = [i for i, finding in enumerate(findings) if i and finding.p_value is not None]
    adjusted = dict(zip(tested, holm([float(findings[i].p_value or 0) for i in tested]), strict=True))
    return tuple(replace(f, p_value=adjusted.get(i, f.p_value)) for i, f in enumerate(findings))


def _leaks(places: Mapping[str, Any], leaked: set[str], reveal: bool) -> Any:
    import pandas as pd

    rows = places["synthetic"]
    rows = rows[rows["normalised"].isin(leaked)].drop_duplicates(["text", "normalised"])
    owner = places["original"].drop_duplicates("normalised").set_index("normalised")["text"]
    return pd.DataFrame(
        {
            "text": rows["text"].to_numpy(dtype=np.int64),
            "kind": rows["kind"].to_numpy(dtype=object),
            "item": [value if reveal else masked(value) for value in rows["value"]],
            "original": rows["normalised"].map(owner).fillna(-1).to_numpy(dtype=np.int64),
        }
    )


def _notes(sides: Mapping[str, Any], own: Mapping[str, Any], uncompared: set[str], patterns: bool) -> tuple[str, ...]:
    notes = []
    if not own:
        notes.append("Names were not looked for, as no list of names was given.")
    if not patterns:
        notes.append("Only the values that were given were looked for, no numbers or addresses by their form.")
    if "control" not in sides:
        notes.append("Without control texts, what people share by chance cannot be told from what was leaked.")
    if uncompared:
        kinds = ", ".join(sorted(uncompared))
        notes.append(
            f"Nobody said which values of {kinds} the control people have, so that these, and all kinds together, could "
            "not be compared with chance."
        )
    return tuple(notes)


def _title(kind: str) -> str:
    return _KINDS.get(kind, kind.replace("_", " "))


def _row(finding: Finding) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "title": finding.title,
        **{name: getattr(finding, name) for name in ("found", "matched", "public", "common", "leaked", "texts")},
        **{
            name: _numbers(getattr(finding, name)) if getattr(finding, name) is not None else None
            for name in ("share", "people", "control", "risk")
        },
        "p_value": finding.p_value,
    }


def _numbers(figure: Rate | Residual) -> dict[str, float | None]:
    return {
        name: float(value) if np.isfinite(value) else None
        for name, value in (("value", figure.value), ("low", figure.low), ("high", figure.high))
    }


def _between(figure: Mapping[str, float]) -> str:
    return f"{share(figure['value'])}, likely {share(figure['low'])} to {share(figure['high'])}"


def _risk(risk: Mapping[str, float | None] | None) -> str:
    if risk is None or any(risk[name] is None for name in ("value", "low", "high")):
        return "–"
    return "{:.1f} % ({:.1f} to {:.1f} %)".format(*(100 * float(risk[name] or 0) for name in ("value", "low", "high")))


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.strip() for cell in line) + " |" for line in lines)
