"""Notebooks as an audit leaves them, built without running any."""

from __future__ import annotations

import base64
import io
import re
from typing import Any

import nbformat
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from leakpro_nb.results import MIME_TYPE, Result

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PNG_TEXT = base64.b64encode(PNG).decode()
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="460.8pt" height="200pt" viewBox="0 0 460.8 200">'
    '<rect width="460" height="200" fill="#eee"/><text x="9" y="30">Curve</text></svg>'
)


def interval(value: float, half: float = 0.03) -> dict[str, Any]:
    return {"value": value, "low": value - half, "high": value + half, "method": "exact"}


def result(level: str = "demonstrated", **changes: Any) -> dict[str, Any]:
    """A result as JSON."""
    data: dict[str, Any] = {
        "package_version": "0.1.0",
        "template": "membership",
        "question": "Can someone who only queries the model tell whose record trained it?",
        "target": {
            "name": "Length of stay, ward 7",
            "kind": "torch classifier",
            "members": 1200,
            "non_members": 1200,
        },
        "threat_model": {"release": "prediction API", "access": "scores"},
        "parameters": {"shadows": 32},
        "attacks": [
            {
                "name": "lira",
                "title": "LiRA",
                "measures": [{"name": "auc", "label": "AUC", "interval": interval(0.71)}],
            },
            {"name": "rmia", "title": "RMIA", "status": "skipped", "reason": "no population data"},
        ],
        "checks": [
            {"name": "null", "title": "Null model", "passed": True, "sentence": "A model without members is safe."},
            {"name": "aa", "title": "A/A test", "passed": True, "sentence": "Halves agree."},
            {"name": "power", "title": "Power", "passed": False, "sentence": "Too few records for FPR 0.001."},
        ],
        "verdict": {
            "level": level,
            "headline": "Membership can be inferred",
            "sentence": "At one false alarm in a hundred, the attacker names 14 % of the patients who trained the "
            "model (95 % interval 12 % to 16 %); a random guess would name 1 %.",
        },
        "started": "2026-11-12T09:00:00+00:00",
        "finished": "2026-11-12T09:12:30+00:00",
    }
    data.update(changes)
    return Result.model_validate(data).model_dump(mode="json")


def display(data: dict[str, Any], metadata: dict[str, Any] | None = None) -> Any:
    return new_output("display_data", data=data, metadata=metadata or {})


def code(*outputs: Any, source: str = "secret_code()", tags: tuple[str, ...] = (), **metadata: Any) -> Any:
    return new_code_cell(source, outputs=list(outputs), metadata={"tags": list(tags), **metadata})


def markdown(source: str, **metadata: Any) -> Any:
    return new_markdown_cell(source, metadata=metadata)


def result_cell(data: Any = None) -> Any:
    return code(display({MIME_TYPE: data or result(), "text/plain": "Result(plain)"}))


def notebook(*cells: Any, audit: bool = True, **metadata: Any) -> Any:
    """A notebook with stable cell ids, so that it is the same each time."""
    own: dict[str, Any] = {"leakpro": {"template": "membership"}} if audit else {}
    nb = new_notebook(cells=list(cells), metadata={**own, **metadata})
    for number, cell in enumerate(nb.cells):
        cell["id"] = f"c{number}"
    return nbformat.from_dict(nb)


def plot(kind: str = "svg") -> str:
    import matplotlib as mpl

    mpl.use("agg")
    mpl.rcParams["svg.hashsalt"] = "fixed"
    import matplotlib.pyplot as plt
    import numpy as np

    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    fpr = np.linspace(1e-3, 1, 200)
    if kind == "svg":
        axes.plot(fpr, fpr**0.5, label="LiRA")
        axes.plot(fpr, fpr, "--", color="grey", label="random guess")
        axes.set(xscale="log", yscale="log", xlabel="false-positive rate", ylabel="true-positive rate")
        axes.legend()
    else:
        rng = np.random.default_rng(0)
        axes.hist([rng.normal(0, 1, 500), rng.normal(1, 1, 500)], bins=30, label=["others", "members"])
        axes.set(xlabel="score", ylabel="records")
        axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else {"Software": None})
    plt.close(figure)
    return buffer.getvalue().decode() if kind == "svg" else base64.b64encode(buffer.getvalue()).decode()


def frame(index: bool = True) -> Any:
    import pandas as pd

    return pd.DataFrame(
        {
            "Attack": ["LiRA", "RMIA", "Loss threshold", "Random guess"],
            "AUC": ["0.71 [0.68, 0.74]", "0.69 [0.66, 0.72]", "0.58 [0.55, 0.61]", "0.50"],
            "TPR at FPR 1 %": ["14.0 %", "12.5 %", "3.1 %", "1.0 %"],
            "Records": [2400, 2400, 2400, 2400],
        },
        index=pd.RangeIndex(4, name="rank") if index else None,
    )


WIDGETS = {
    "application/vnd.jupyter.widget-state+json": {
        "version_major": 2,
        "version_minor": 0,
        "state": {
            "box": {"model_name": "VBoxModel", "model_module": "@jupyter-widgets/controls",
                    "state": {"children": ["IPY_MODEL_drop", "IPY_MODEL_tick", "IPY_MODEL_slide", "IPY_MODEL_pass"]}},
            "drop": {"model_name": "DropdownModel",
                     "state": {"description": "Access", "_options_labels": ["labels", "scores"], "index": 1}},
            "tick": {"model_name": "CheckboxModel", "state": {"description": "Recipe known", "value": True}},
            "slide": {"model_name": "IntSliderModel", "state": {"description": "Shadows", "value": 32}},
            "pass": {"model_name": "PasswordModel", "state": {"description": "Token", "value": "hunter2"}},
            "any": {"model_name": "AnyModel", "model_module": "anywidget",
                    "state": {"_esm": "export default {}", "access": "black-box", "layout": "IPY_MODEL_x"}},
            "out": {"model_name": "OutputModel",
                    "state": {"outputs": [{"output_type": "stream", "name": "stdout", "text": "captured\n"}]}},
            "bar": {"model_name": "HBoxModel",
                    "state": {"children": ["IPY_MODEL_left", "IPY_MODEL_prog", "IPY_MODEL_right"]}},
            "left": {"model_name": "HTMLModel", "state": {"value": "100%"}},
            "prog": {"model_name": "FloatProgressModel", "state": {"value": 10.0}},
            "right": {"model_name": "HTMLModel", "state": {"value": " 10/10 [00:01]"}},
        },
    }
}  # fmt: skip


def view(key: str, text: str = "VBox(children=())") -> Any:
    return display({"application/vnd.jupyter.widget-view+json": {"model_id": key}, "text/plain": text})


def sample(finished: bool = True, **changes: Any) -> Any:
    """A realistic audit notebook."""
    described = "ROC curve on logarithmic axes. The attack lies well above the diagonal of a random guess."
    cells = [
        markdown("# Can membership be inferred from the ward model?"),
        code(source="target = 'target.py'", tags=("parameters",)),
        code(source="target = '/home/alice/target.py'", tags=("injected-parameters",)),
        markdown("## In one minute"),
        code(display({"text/markdown": "**14 % of the patients can be named** at one false alarm in a hundred. "
                      "A model that had learned nothing about them would allow 1 %.\n\n> The attack needs the "
                      "model's scores and data from a similar hospital. It needs no insider."})),
        markdown("## The question\n\nThe hospital wants to offer the model through a *prediction service*. "
                 "May a stranger learn that a given patient was treated here? See [how sure we are]"
                 "(#How-sure-we-are) and the [EDPB opinion](https://www.edpb.europa.eu/).\n\n"
                 "1. Who was in the training data?\n2. Which groups are exposed most?\n"
                 "   - by age\n   - by ward"),
        markdown("## Who attacks"),
        code(view("box")),
        markdown("## The target"),
        code(display({"text/html": frame().to_html(), "text/plain": "frame"})),
        markdown("### Splits\n\n| Set | Records | Accuracy |\n|---|---|---|\n| Training | 1,200 | 0.98 |\n"
                 "| Held out | 1,200 | 0.83 |"),
        markdown("## The attack\n\nThe score of a record $x$ is the likelihood ratio\n\n"
                 "$$\\Lambda(x) = \\frac{p(\\phi(x) \\mid \\mathrm{in})}{p(\\phi(x) \\mid \\mathrm{out})}$$\n\n"
                 "estimated from 32 shadow models.[^1]\n\n[^1]: Carlini et al., 2022."),
        code(new_output("stream", name="stderr", text=" 40%|####   | 4/10\n"), view("bar"),
             new_output("stream", name="stdout", text="trained 32 shadow models\n")),
        markdown("## What the attacker got"),
        code(display({"image/svg+xml": plot("svg"), "image/png": PNG_TEXT, "text/plain": "<Figure size 640x480>"},
                     {"image/png": {"alt": described}})),
        code(display({"text/html": frame().style.hide(axis="index").highlight_max(subset=["Records"]).format(
            {"Records": "{:,}"}).set_caption("What each attack reached").to_html(table_uuid="t1")})),
        markdown("## Who is exposed"),
        code(display({"image/png": plot("png")}, {"image/png": {"alt": "Histogram of scores, members lie right."}})),
        markdown("## How sure we are\n\nThree checks were made; one did not pass."),
        markdown("## What it means\n\nThe finding counts as *demonstrated* under the rule fixed beforehand."),
        markdown("## What to do\n\n- Train with differential privacy, or\n- release labels only."),
        markdown("## How to repeat this\n\n```bash\nleakpro-nb audit target.py --template membership\n```"),
        *([result_cell(result(**changes))] if finished else []),
    ]  # fmt: skip
    return notebook(*cells, widgets=WIDGETS)


def check_inert(html: str) -> None:
    """Assert that a page runs nothing and fetches nothing."""
    soup = BeautifulSoup(html, "html.parser")
    assert not soup.find_all(["iframe", "object", "embed", "link", "base", "form", "foreignobject", "svg"])
    for script in soup.find_all("script"):
        assert script["type"] == "application/json"
        assert "<" not in script.get_text()
    assert len(soup.find_all("style")) == 1
    assert "url(" not in soup.style.get_text()
    assert "@import" not in soup.style.get_text()
    for tag in soup.find_all(True):
        for name, value in tag.attrs.items():
            assert not name.lower().startswith("on")
            if name == "src":
                assert str(value).startswith("data:image/")
                check_picture(str(value))
            if name == "href":
                assert tag.name == "a"
                assert re.match(r"#[snrp]\w+$|#[nr]?\d*$|https?://|mailto:", str(value))


def check_picture(uri: str) -> None:
    if not uri.startswith("data:image/svg+xml"):
        return
    svg = base64.b64decode(uri.partition(",")[2]).decode().lower()
    for bad in ["<script", "foreignobject", "onload", "onclick", "evil.example", "javascript:", "file:", "@import"]:
        assert bad not in svg
