"""Personal data in synthetic texts: known leaks, null, every kind found by its form, and hostile texts."""

from __future__ import annotations

import json
import socket
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest

from leakpro_nb.attacks.synthetic.text_scan import contest, copied, find, masked, normalise, phrases, words
from leakpro_nb.audits.synthetic_text import HEADLINE, VERBATIM, scan, scan_release, text_columns
from leakpro_nb.errors import InputError
from leakpro_nb.game.tables import SyntheticRelease

presidio = pytest.mark.skipif(find_spec("presidio_analyzer") is None, reason="the extra text is not installed")

FIRST = ["Anna", "Åke", "José", "Birgit", "Olof", "Zoë", "Mary-Ann", "Łukasz", "Nils", "Sara", "Ines", "Karl"]
PARTS = ["berg", "ström", "lund", "qvist", "dal", "gren", "holm", "sten", "mark", "vik", "hed", "näs", "fors", "ås"]
MIDDLE = ["Al", "Bjö", "Ced", "Dal", "Ek", "Fal", "Gran", "Hag", "Is", "Jung", "Kron", "Lin", "Mo", "Ny", "Öst", "Ros"]
WAYS = (
    "{name} came to the ward with pain in the chest and was sent home after two days of rest.",
    "Seen today: {name}. Blood pressure 120/80, weight 82.5 kg, took 3 x 500 mg for 10 days at 14:30.",
    "The daughter of {name} called about the results, which were normal in every respect this time.",
)
ABOUT = {
    "EMAIL_ADDRESS": "Answers go to {} as agreed.",
    "PHONE_NUMBER": "She can be reached at {} in the evening.",
    "IBAN_CODE": "Refund to {} please.",
    "CREDIT_CARD": "Paid with card {} at the desk.",
    "IP_ADDRESS": "Booked from {} on the web.",
    "DATE_TIME": "Born on {} in Lund.",
    "SE_PERSONNUMMER": "Identity {} was checked.",
    "US_SSN": "Insured as {} since long.",
    "LONG_NUMBER": "Record {} has the details.",
}


def names(n: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    pick = lambda values: str(values[rng.integers(len(values))])  # noqa: E731
    return [f"{pick(FIRST)} {pick(MIDDLE)}{pick(PARTS)}{pick(PARTS)}{pick(PARTS)}" for _ in range(n)]


def luhn(digits: list[int]) -> int:
    doubled = [d if i % 2 else sum(divmod(2 * d, 10)) for i, d in enumerate(reversed(digits))]
    return -sum(doubled) % 10


def item(kind: str, rng: np.random.Generator) -> str:
    d = [int(x) for x in rng.integers(0, 10, 20)]
    text = "".join(map(str, d))
    day, month, year = int(rng.integers(1, 29)), int(rng.integers(1, 13)), int(rng.integers(1930, 2010))
    if kind == "EMAIL_ADDRESS":
        return f"a{text[:6]}.{MIDDLE[d[0]].lower()}@clinic-{d[1]}.example"
    if kind == "PHONE_NUMBER":
        forms = ("07{}-{} {} {}", "+46 7{} {} {} {}", "(4{}5) {}-{}{}")
        return forms[d[0] % 3].format(d[1], text[2:5], text[5:7], text[7:9])
    if kind == "IBAN_CODE":
        body = text[:20]
        return f"SE{98 - int(body + '281400') % 97:02d}{body}"
    if kind == "CREDIT_CARD":
        body = [4, *d[:14]]
        return "".join(map(str, [*body, luhn(body)]))
    if kind == "IP_ADDRESS":
        return f"{10 + d[0]}.{10 * d[1] + d[2]}.{d[3]}.{10 * d[4] + d[5]}"
    if kind == "DATE_TIME":
        stamp = pd.Timestamp(year, month, day)
        return stamp.strftime(["%Y-%m-%d", "%d/%m/%Y", "%d %B %Y"][d[0] % 3])
    if kind == "SE_PERSONNUMMER":
        body = [int(x) for x in f"{year % 100:02d}{month:02d}{day:02d}{text[:3]}"]
        written = "".join(map(str, [*body, luhn(body)]))
        return f"{written[:6]}-{written[6:]}"
    if kind == "US_SSN":
        return f"{100 + int(text[:3]) // 2}-{10 + int(text[3:5]) % 80}-{1000 + int(text[5:8])}"
    return f"M{1 + d[0]}{text[:7]}"


def stories(people: list[str], seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [WAYS[rng.integers(len(WAYS))].format(name=name) for name in people]


def world(share: float, n: int = 120, seed: int = 0):
    """Original, control and synthetic texts, of which a share names someone from the original."""
    people = {side: names(n, 10 * seed + i) for i, side in enumerate(("original", "control", "fresh"))}
    rng = np.random.default_rng(seed)
    copies = rng.permutation(n) < round(share * n)
    told = [people["original"][i] if copies[i] else people["fresh"][i] for i in range(n)]
    texts = stories(people["original"], seed + 1), stories(told, seed + 2), stories(people["control"], seed + 3)
    known = {"known": {"name": people["original"]}, "known_control": {"name": people["control"]}}
    return texts, known


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 1.0])
def test_known_leaks_are_read_as_what_they_are(share):
    texts, known = world(share)
    head = scan(*texts, patterns=False, **known)[HEADLINE]
    assert head.share.low <= share <= head.share.high
    assert head.people.low <= share <= head.people.high
    assert head.risk.low <= share <= head.risk.high
    if share >= 0.2:
        assert head.risk.low > 0
        assert head.p_value < 0.01


def test_fresh_names_exceed_control_no_more_often_than_chance_allows():
    # few possible names, so that chance does meet the original's
    found = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        sides = [[f"{FIRST[i]} {PARTS[j]}".title() for i, j in rng.integers(0, 12, (80, 2))] for _ in range(3)]
        texts = [[WAYS[0].format(name=name) for name in side] for side in sides]
        original, control = sides[0], sides[1][:50]
        result = scan(
            texts[0], texts[2], texts[1][:50], {"name": original}, known_control={"name": control}, patterns=False
        )
        found.append((result[HEADLINE].matched, result[HEADLINE].p_value < 0.05, result[HEADLINE].risk))
    assert min(matched for matched, _, _ in found) > 0
    assert sum(hit for _, hit, _ in found) <= 8
    assert sum(risk.low <= 0 <= risk.high for _, _, risk in found) >= 52


def test_control_and_public_names_are_set_apart():
    original = ["Anna Berg has a cold.", "Greta Garbo was here.", "Nils Holm fell.", "Sara Lund slept."]
    synthetic = ["BERG, ANNA is well.", "Garbo Greta ate.", "nils holm sang.", "Sara Lund ran, Sara Lund sat.", None]
    control = ["Nils Holm danced.", "Zoë Dal read."]
    result = scan(
        original,
        synthetic,
        control,
        {"name": ["Anna Berg", "Greta Garbo", "Nils Holm", "Sara Lund"]},
        ["greta garbo"],
        known_control={"name": ["Nils Holm", "Zoë Dal"]},
        patterns=False,
    )
    head = result[HEADLINE]
    assert (head.found, head.matched, head.public, head.common, head.leaked, head.texts) == (4, 4, 1, 1, 2, 2)
    assert result.leaks[["text", "original"]].to_numpy().tolist() == [[0, 0], [3, 3]]
    assert head.people.value == 0.5
    assert head.control.value == 0.0


def test_values_stay_hidden_unless_asked_for():
    texts, known = world(0.5, n=20)
    hidden = scan(*texts, patterns=False, **known)
    for name in known["known"]["name"]:
        for shown in (hidden._repr_markdown_(), json.dumps(hidden.to_json(), ensure_ascii=False), str(hidden)):
            assert name not in shown
            assert name.split()[1] not in shown
    shown = scan(*texts, patterns=False, reveal_records=True, **known)
    assert set(shown.leaks["item"]) <= set(known["known"]["name"])
    assert len(shown.leaks) == len(hidden.leaks) > 0


def test_without_control_or_names_of_control_nothing_is_compared():
    texts, known = world(0.5, n=30)
    alone = scan(texts[0], texts[1], known=known["known"], patterns=False)
    assert alone[HEADLINE].risk is None
    assert alone[HEADLINE].leaked > 0
    assert "chance" in alone.sentence
    lopsided = scan(*texts, known["known"], patterns=False)
    assert lopsided[HEADLINE].risk is None
    assert any("control people" in note for note in lopsided.notes)
    json.dumps([alone.to_json(), lopsided.to_json()], allow_nan=False)


def test_copied_phrases_are_found_beyond_those_of_control():
    rng = np.random.default_rng(0)
    vocabulary = [f"w{i}" for i in range(300)]
    prose = lambda n: [" ".join(rng.choice(vocabulary, 40)) for _ in range(n)]  # noqa: E731
    original, control, synthetic = prose(40), prose(30), prose(40)
    formula = " the patient was sent home in good health today"
    original = [text + formula for text in original]
    control = [text + formula for text in control]
    for i in range(8):
        copy = original[i].upper().split()[5:25]
        synthetic[i] = " ".join(["x1", *copy, "x2"])
    synthetic[20] += " x3" + formula
    result = scan(original, synthetic, control, patterns=False)
    found = result[VERBATIM]
    assert found.texts == 8
    assert found.people.value == 8 / 40
    assert found.control.value == 0.0
    assert found.risk.low > 0
    assert result.longest.tolist() == [20] * 8 + [0] * 32


def test_longest_copied_stretch_against_brute_force():
    rng = np.random.default_rng(1)
    source = [" ".join(rng.choice(list("abc"), 60)) for _ in range(3)]
    grams = {tuple(text.split()[i : i + 4]) for text in source for i in range(57)}
    held = set().union(*map(set, phrases(source, 4)))
    for _ in range(30):
        text = [str(x) for x in rng.choice(list("abc"), 25)]
        best = max(
            (
                j - i
                for i in range(25)
                for j in range(i + 4, 26)
                if all(tuple(text[k : k + 4]) in grams for k in range(i, j - 3))
            ),
            default=0,
        )
        assert copied(phrases([" ".join(text)], 4)[0], held, 4) == best


def test_sizes_of_the_sides_favour_neither():
    rng = np.random.default_rng(2)
    drawn = lambda n: [{int(i)} for i in rng.integers(0, 400, n)]  # noqa: E731
    gaps = []
    for seed in range(200):
        tried = contest(drawn(300), drawn(200), drawn(40), seed=seed)
        gaps.append(tried.attack.rate - tried.control.rate)
    assert abs(np.mean(gaps)) < 3 * np.std(gaps) / np.sqrt(len(gaps))


def test_repeated_copies_of_one_original_widen_the_interval():
    original = [f"{name} rested." for name in names(50, 0)]
    fresh = [f"{name} rested." for name in names(50, 1)]
    known = {"known": {"name": names(50, 0)}, "patterns": False}
    spread = scan(original, original[:25] + fresh[:25], **known)[HEADLINE].share
    heaped = scan(original, [original[0]] * 25 + fresh[:25], **known)[HEADLINE].share
    assert spread.value == heaped.value == 0.5
    assert heaped.high - heaped.low > 2 * (spread.high - spread.low)


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("name", "Anna-Lena  Öberg", "OBERG, Anna Lena"),
        ("name", "Jose\u0301 O’Hara's", "josé o'hara"),
        ("name", "Ｍａｒｉａ Groß", "maria gross"),
        ("PHONE_NUMBER", "+46 (0)70-123 45 67", "0701234567"),
        ("DATE_TIME", "12 March 1985", "1985-03-12"),
        ("DATE_TIME", "03/12/1985", "March 12th, 1985"),
        ("date of birth", pd.Timestamp("1985-03-12"), "12/3/1985"),
        ("IBAN_CODE", "SE45 5000 0000 0583 9825 7466", "se4550000000058398257466"),
        ("EMAIL_ADDRESS", "Anna@X.example ", "anna@x.example"),
        ("record", 4711, "004711"),
    ],
)
def test_ways_to_write_the_same_item_are_equal(kind, one, other):
    assert normalise(kind, one) == normalise(kind, other) != ""


def test_different_items_stay_different():
    assert normalise("IP_ADDRESS", "10.0.0.1") != normalise("IP_ADDRESS", "1.0.0.01")
    assert normalise("name", "Anna Berg") != normalise("name", "Anna Bergh")
    assert words("") == words("… <>") == []
    assert masked("") == "… (0 characters)"


def test_known_values_are_found_whatever_they_look_like():
    known = {"name": ["(a+)+$ .*", "Bo", "Łukasz Ek", None], "address": ["Stora Gatan 12 B"], "record": ["48 21-33"]}
    found = find(["<b>łukasz</b>&nbsp;EK, stora gatan 12b; 482133, 4821337 Bo aaaa", "(A+)"], known, patterns=False)
    assert found["kind"].tolist() == ["name", "address", "record"]
    assert found["value"].tolist()[1:] == ["stora gatan 12b", "482133"]


def test_release_of_tables_names_its_text_columns():
    texts, known = world(0.5, n=40)
    frames = [pd.DataFrame({"age": range(40), "note": side, "city": "Lund"}) for side in texts]
    frames[0]["name"], frames[2]["name"], frames[1]["name"] = (
        known["known"]["name"],
        known["known_control"]["name"],
        "x",
    )
    frames[1].loc[3, "note"] = None
    release = SyntheticRelease(frames[0], frames[1], frames[2])
    assert text_columns(release) == ["note"]
    found = scan_release(release, known_columns=["name"], patterns=False)
    json.dumps(found, allow_nan=False)
    assert found["columns"] == ["note"]
    assert found["findings"][0]["risk"]["low"] > 0.2
    bare = SyntheticRelease(*(frame[["age", "city"]] for frame in frames))
    assert scan_release(bare, patterns=False) is None
    for wrong in ({"columns": ["nope"]}, {"columns": ["age"]}, {"known_columns": ["nope"]}):
        with pytest.raises(InputError):
            scan_release(release, **wrong, patterns=False)


def test_a_table_of_known_values_says_whose_they_are():
    result = scan(
        ["fell ill", "got well"], ["Anna Berg"], known=pd.DataFrame({"name": ["Nils Ek", "Anna Berg"]}), patterns=False
    )
    assert result[HEADLINE].leaked == 1
    assert result[HEADLINE].people.value == 0.5


@pytest.mark.parametrize(
    "wrong",
    [
        {"original_texts": []},
        {"synthetic_texts": []},
        {"original_texts": "Anna Berg"},
        {"synthetic_texts": [3]},
        {"known": {"name": "Anna"}},
        {"known": ["Anna"]},
        {"known": pd.DataFrame({"name": ["a", "b", "c"]})},
        {"phrase": 1},
        {"seed": -1},
    ],
)
def test_bad_input_is_named(wrong):
    with pytest.raises(InputError) as error:
        scan(**{"original_texts": ["a"], "synthetic_texts": ["b"], "patterns": False, **wrong})
    assert "Anna" not in str(error.value)


def test_missing_extra_says_how_to_get_it(monkeypatch):
    import builtins

    from leakpro_nb.attacks.synthetic import text_scan

    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("presidio"):
            raise ModuleNotFoundError("No module", name=name)
        return real(name, *args, **kwargs)

    text_scan._recognisers.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"pip install .*\[text\]"):
        find(["a"])
    assert len(find(["Anna Berg"], {"name": ["Anna Berg"]}, patterns=False)) == 1


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("asked the net")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@presidio
@pytest.mark.parametrize("kind", ABOUT)
def test_what_has_a_telling_form_is_found(kind, offline):
    rng = np.random.default_rng(3)
    items = [item(kind, rng) for _ in range(200)]
    found = find([ABOUT[kind].format(each) for each in items])
    keys = [set(found["normalised"][found["text"] == i]) for i in range(200)]
    recall = np.mean([normalise(kind, each) in key for each, key in zip(items, keys, strict=True)])
    assert recall == 1


@presidio
def test_ordinary_clinical_numbers_are_no_personal_data(offline):
    assert find(
        [WAYS[1].format(name="She"), "Stage 2, grade 3, 45 years, HR 72 in 2019, room 12, dose 1,250.5 mg"]
    ).empty


@presidio
def test_copied_items_are_read_as_what_they_are(offline):
    rng = np.random.default_rng(4)
    kinds = [kind for kind in ABOUT if kind != "DATE_TIME"]
    made = lambda n: [ABOUT[k].format(item(k, rng)) for k in rng.choice(kinds, n)]  # noqa: E731
    original, control, synthetic = made(100), made(60), made(100)
    synthetic[:30] = original[:30]
    head = scan(original, synthetic, control)[HEADLINE]
    assert head.texts == 30
    assert head.risk.low <= 0.3 <= head.risk.high
    assert head.control.value == 0


@presidio
def test_known_columns_meet_what_is_found_by_its_form(offline):
    known = pd.DataFrame({"phone": ["070-123 45 67"], "mail": ["Anna@x.example"], "date of birth": ["1985-03-12"]})
    written = [
        "Call +46 70 123 45 67.",
        "<a href='mailto:anna@x.example'>",
        "Born 12 March 1985.",
        "Born 13 March 1985.",
    ]
    result = scan(["Nothing here."], written, known=known)
    assert result.leaks["text"].tolist() == [0, 1, 2]
    assert result[HEADLINE].people.value == 1


@presidio
def test_hostile_texts_are_read(offline):
    long = "Anna wrote. " * 9_000 + "mail anna@x.example"
    hostile = [
        "",
        None,
        float("nan"),
        pd.NA,
        "a" * 60_000,
        "1" * 60_000,
        "a@" * 30_000,
        "1 " * 30_000,
        "<" * 30_000,
        "((((+46 " * 3_000,
        "\x00\ud83d\u200f ١٢٣٤٥٦٧٨ 漢字",
        "<script>alert('x')</script>|*_`$",
        long,
    ]
    found = find(hostile, {"name": ["Anna"]})
    last = found[found["text"] == len(hostile) - 1]
    assert (last["kind"] == "name").sum() == 9_000
    assert last["value"].iloc[-1] == "anna@x.example"
    result = scan(hostile, hostile)
    json.dumps(result.to_json(), allow_nan=False)
    assert "<script>" not in result._repr_markdown_()


@presidio
def test_what_two_pieces_of_a_long_text_share_is_found_once(offline):
    number = "48213377123"
    for start in (19_785, 19_795, 19_800, 19_990, 19_996, 20_000):
        text = "x" * (start - 1) + " " + number + " " + "y" * 30_000
        found = find([text])
        assert found[["start", "end"]].to_numpy().tolist() == [[start, start + len(number)]]
