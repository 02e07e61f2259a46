"""The static form of widgets: what was chosen, as a table, from the state saved in the notebook."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from leakpro_nb.report import html, tables
from leakpro_nb.report.document import Block, Cell, Paragraph, Text
from leakpro_nb.report.text import printable, shorten

__all__ = ["STATE", "VIEW", "blocks", "state"]

STATE = "application/vnd.jupyter.widget-state+json"
VIEW = "application/vnd.jupyter.widget-view+json"
MAX_DEPTH = 20
MAX_VALUE = 300
MAX_MODELS = 500

_PROGRESS = frozenset({"FloatProgressModel", "IntProgressModel"})
_SILENT = frozenset({"ButtonModel", "FileUploadModel", "PlayModel", "ControllerModel", "LayoutModel"})
_WORDS = frozenset({"LabelModel", "HTMLModel", "HTMLMathModel"})
# Traits that say how an anywidget looks or works, not what was chosen.
_TECHNICAL = frozenset({"layout", "style", "tabbable", "tooltip", "description_tooltip", "comm", "log"})

Model = Mapping[str, Any]


def state(metadata: Mapping[str, Any]) -> dict[str, Model]:
    """Return the saved widget models of a notebook, by model id."""
    widgets = metadata.get("widgets")
    saved = widgets.get(STATE) if isinstance(widgets, Mapping) else None
    models = saved.get("state") if isinstance(saved, Mapping) else None
    if not isinstance(models, Mapping):
        return {}
    return {str(key): model for key, model in models.items() if isinstance(model, Mapping)}


def blocks(
    view: object, models: Mapping[str, Model], outputs: Callable[[list[Any]], list[Block]]
) -> list[Block] | None:
    """Return the static form of the widget that ``view`` names, ``None`` if its state was not saved.

    Parameters
    ----------
    outputs
        Renders what was captured inside an Output widget.
    """
    key = view.get("model_id") if isinstance(view, Mapping) else None
    if not isinstance(key, str) or key not in models:
        return None
    return _Reader(models, outputs).read(key)


class _Reader:
    """Walks a widget's children and gathers neighbouring choices into one table."""

    def __init__(self, models: Mapping[str, Model], outputs: Callable[[list[Any]], list[Block]]) -> None:
        self.models, self.outputs = models, outputs
        self.seen: set[str] = set()
        self.found: list[Block] = []
        self.rows: list[tuple[str, str]] = []

    def read(self, key: str) -> list[Block]:
        self._visit(key, 0)
        self._flush()
        return self.found

    def _flush(self) -> None:
        if self.rows:
            head = [Cell((Text("Choice"),), header=True), Cell((Text("Value"),), header=True)]
            body = [[Cell((Text(a),)), Cell((Text(b),), align="left")] for a, b in self.rows]
            table = tables.make([head], body)
            self.found += [table] if table else []
            self.rows = []

    def _visit(self, key: str, depth: int) -> None:
        model = self.models.get(key)
        if model is None or key in self.seen or depth > MAX_DEPTH or len(self.seen) > MAX_MODELS:
            return
        self.seen.add(key)
        traits = model.get("state")
        traits = traits if isinstance(traits, Mapping) else {}
        kind = str(model.get("model_name") or traits.get("_model_name") or "")
        module = str(model.get("model_module") or traits.get("_model_module") or "")
        children = _children(traits)
        if kind in _SILENT or kind in _PROGRESS or self._is_progress(children):
            return
        if kind in _WORDS:
            self._words(traits)
        elif kind == "OutputModel":
            self._flush()
            captured = traits.get("outputs")
            self.found += self.outputs(list(captured)) if isinstance(captured, (list, tuple)) else []
        elif module == "anywidget":
            self.rows += _anywidget(traits)
        elif children:
            for child in children:
                self._visit(child, depth + 1)
        else:
            row = _choice(kind, traits)
            self.rows += [row] if row else []

    def _is_progress(self, children: list[str]) -> bool:
        """Whether these are the parts of one progress bar (tqdm: text, bar, text)."""
        names = [str(self.models.get(child, {}).get("model_name", "")) for child in children]
        return bool(_PROGRESS.intersection(names)) and all(name in _PROGRESS | _WORDS for name in names)

    def _words(self, traits: Mapping[str, Any]) -> None:
        content = html.blocks(str(traits.get("value") or ""))
        if content:
            self._flush()
            self.found += content


def _children(traits: Mapping[str, Any]) -> list[str]:
    children = traits.get("children")
    if not isinstance(children, (list, tuple)):
        return []
    return [str(child).removeprefix("IPY_MODEL_") for child in children if str(child).startswith("IPY_MODEL_")]


def _choice(kind: str, traits: Mapping[str, Any]) -> tuple[str, str] | None:
    name = _words_of(traits.get("description") or traits.get("placeholder") or kind.removesuffix("Model"))
    labels = traits.get("_options_labels")
    if kind == "PasswordModel":
        return name, "(hidden)"
    if isinstance(labels, (list, tuple)):
        index = traits.get("index")
        chosen = index if isinstance(index, (list, tuple)) else [index]
        names = [str(labels[i]) for i in chosen if isinstance(i, int) and 0 <= i < len(labels)]
        return name, _words_of(" – ".join(names) if "Range" in kind else ", ".join(names)) or "(none)"
    if "value" not in traits:
        return None
    value = traits["value"]
    if "Range" in kind and isinstance(value, (list, tuple)):
        return name, _words_of(" – ".join(map(str, value)))
    return name, _shown(value)


def _anywidget(traits: Mapping[str, Any]) -> list[tuple[str, str]]:
    chosen = {
        key: value
        for key, value in traits.items()
        if not key.startswith("_") and key not in _TECHNICAL and _is_small(value)
    }
    return [(_words_of(key.replace("_", " ").capitalize()), _shown(value)) for key, value in chosen.items()]


def _is_small(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return len(value) <= 20 and all(isinstance(item, (str, int, float, bool)) for item in value)
    return isinstance(value, (str, int, float, bool))


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return _words_of(", ".join(map(str, value))) or "(none)"
    if isinstance(value, (str, int, float)):
        return _words_of(value) or "(empty)"
    return "(set)" if value else "(empty)"


def _words_of(value: object) -> str:
    return shorten(" ".join(printable(str(value)).split()), MAX_VALUE)


# Shown when neither state nor text of a widget was saved: a report never leaves a silent gap.
MISSING = Paragraph((Text("[An interactive control stood here; its state was not saved in the notebook.]"),))
