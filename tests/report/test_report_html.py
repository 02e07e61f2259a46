from __future__ import annotations

import json

from bs4 import BeautifulSoup
from report_samples import check_inert, result, sample

from leakpro_nb.results import Result


def test_page_is_whole_and_fetches_nothing(page):
    html = page(sample())
    check_inert(html)
    soup = BeautifulSoup(html, "html.parser")
    policy = soup.find("meta", attrs={"http-equiv": "Content-Security-Policy"})["content"]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    assert soup.html["lang"] == "en"
    assert soup.h1.get_text() == "Can membership be inferred from the ward model?"
    assert len(soup.find_all("h1")) == 1
    assert soup.select_one(".card.demonstrated .headline").get_text() == "Membership can be inferred"
    external = [a["href"] for a in soup.find_all("a") if not a["href"].startswith("#")]
    assert external == ["https://www.edpb.europa.eu/"]


def test_every_inner_link_arrives(page):
    soup = BeautifulSoup(page(sample()), "html.parser")
    ids = [tag["id"] for tag in soup.find_all(id=True)]
    assert len(ids) == len(set(ids))
    assert all(a["href"][1:] in ids for a in soup.find_all("a") if a["href"].startswith("#"))
    assert [a.get_text() for a in soup.select("nav a")][:2] == ["In one minute", "The question"]


def test_every_picture_has_words(page):
    soup = BeautifulSoup(page(sample()), "html.parser")
    assert len(soup.find_all("img")) == 4
    assert all(img["alt"].strip() for img in soup.find_all("img"))
    assert soup.find("img", class_="math")["alt"] == "x"


def test_result_travels_with_the_page_and_cannot_break_out(page):
    verdict = {"level": "limited", "headline": "</script><script>alert(1)</script>", "sentence": "<!--"}
    html = page(sample(verdict=verdict))
    check_inert(html)
    data = BeautifulSoup(html, "html.parser").find(id="leakpro-result").get_text()
    assert Result.model_validate(json.loads(data)) == Result.model_validate(result(verdict=verdict))


def test_tables_widgets_and_notes(page):
    soup = BeautifulSoup(page(sample()), "html.parser")
    first, second, _, styled = soup.find_all("table")
    assert [td.get_text() for td in first.find_all("td")][:4] == ["Access", "scores", "Recipe known", "yes"]
    assert [th.get_text() for th in second.thead.find_all("th")][:2] == ["rank", "Attack"]
    assert styled.caption.get_text() == "Table 1. What each attack reached"
    assert "background:#ffff00;color:#000000" in styled.find_all("td")[3]["style"]
    assert "Carlini et al., 2022." in soup.select_one(".notes").get_text()
