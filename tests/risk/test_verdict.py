"""The verdict: each level is reached by figures that deserve it, and by no others."""

from __future__ import annotations

import re

import pytest

from leakpro_nb.measures import belief_gain
from leakpro_nb.risk import Finding, load_levels, verdict

FORBIDDEN = re.compile(r"\b(anonymous|safe|compliant|guarantee)", re.IGNORECASE)


def decide(*counts, failed=(), fpr=0.01, checks=()):
    findings = [
        Finding(f"attack_{i}", f"attack {i}", f / n0, h / n1, 0.0, 1.0, belief_gain(h, n1, f, n0))
        for i, (h, n1, f, n0) in enumerate(counts)
    ]
    return verdict(
        findings,
        failed_gates=list(failed),
        failed_checks=list(checks),
        fpr=fpr,
        prior=0.5,
        level=0.95,
        subjects="patients",
    )


@pytest.mark.parametrize(
    ("counts", "level"),
    [
        ((900, 4000, 40, 4000), "demonstrated"),
        ((86, 400, 4, 400), "demonstrated"),
        ((600, 40_000, 400, 40_000), "limited"),
        ((4, 400, 4, 400), "inconclusive"),
        ((50, 5000, 50, 5000), "inconclusive"),
        ((10_000, 1_000_000, 10_000, 1_000_000), "not_found"),
        ((0, 400, 0, 400), "inconclusive"),
    ],
)
def test_level(counts, level):
    decision = decide(counts)
    assert decision.level == level
    assert not FORBIDDEN.search(decision.headline + decision.sentence)


def test_the_strongest_attack_decides_and_the_least_certain_one_limits():
    nothing, leak = (50, 5000, 50, 5000), (1000, 5000, 50, 5000)
    assert decide(nothing, leak).values["attack"] == "attack 1"
    clean = (10_000, 1_000_000, 10_000, 1_000_000)
    assert decide(clean, nothing).level == "inconclusive"


def test_a_failed_gate_outweighs_any_leak():
    decision = decide((1000, 5000, 50, 5000), failed=["The two groups differ by themselves."])
    assert decision.level == "inconclusive"
    assert "differ by themselves" in decision.sentence


def test_any_failed_check_forbids_an_all_clear_but_not_a_finding():
    clean = (10_000, 1_000_000, 10_000, 1_000_000)
    decision = decide(clean, checks=["The shadow models behave differently."])
    assert decision.level == "inconclusive"
    assert "behave differently" in decision.sentence
    assert decide((1000, 5000, 50, 5000), checks=["Ties."]).level == "demonstrated"


@pytest.mark.parametrize(
    ("non_members", "words"), [(60, "at least 100 records"), (5000, "could run"), (None, "could run")]
)
def test_without_a_figure_it_says_whether_records_or_attacks_are_lacking(non_members, words):
    decision = verdict([], failed_gates=[], fpr=0.01, prior=0.5, level=0.95, non_members=non_members)
    assert words in decision.sentence


def test_inconclusive_says_how_many_records_would_settle_it():
    needed = decide((4, 400, 4, 400)).values["records_needed"]
    k = round(0.01 * needed)
    assert decide((k, needed, k, needed)).level == "not_found"
    assert decide((k // 2, needed // 2, k // 2, needed // 2)).level == "inconclusive"


def test_no_finding_is_inconclusive():
    assert verdict([], failed_gates=[], fpr=0.01, prior=0.5, level=0.95).level == "inconclusive"


def test_cut_offs_are_data_with_provenance():
    levels = load_levels()
    assert 0 < levels.negligible < levels.limited < 1
    assert levels.provenance
    assert levels.version


def test_a_gain_that_may_be_total_is_not_given_as_a_figure():
    assert "a gain of any size cannot be excluded" in decide((0, 100, 0, 100)).sentence
