from __future__ import annotations

import re
import subprocess
import sys

import pytest
from nbformat.v4 import new_output
from report_samples import PNG_TEXT, code, display, frame, markdown, notebook, result_cell, sample, view

from leakpro_nb.report import tables
from leakpro_nb.report.document import Cell, Text


def test_representative_notebook(typ):
    source = typ(sample())
    for expected in [
        'style.report.with(title: "Can membership be inferred from the ward model?"',
        '#heading(level: 1)[#"In one minute";]',
        '#heading(level: 2)[#"Splits";]',
        '#style.verdict("demonstrated", [#"Membership can be inferred";]',
        '#strong[#"14 % of the patients can be named";]',
        '#link(label("s9"))[#"how sure we are";]',
        '#link("https://www.edpb.europa.eu/")[#"EDPB opinion";]',
        '#math.equation(eval("x", mode: "math"), alt: "x", block: false)',
        '#footnote[#"Carlini et al., 2022.";]',
        '#style.printed("trained 32 shadow models")',
        'caption: [#"What each attack reached";]',
        'caption: [#"ROC curve on logarithmic axes.";]',
        '#pdf.attach("result.json"',
    ]:
        assert expected in source


def test_no_code_no_prompts_no_parameters_no_progress(typ, page):
    for text in (typ(sample()), page(sample())):
        for unwanted in ["secret_code", "alice", "Out[", "In [", "4/10", "10/10", "Result(plain)", "hunter2",
                         "Figure size", "class=\"dataframe"]:  # fmt: skip
            assert unwanted not in text


def test_importing_the_room_is_cheap():
    script = "import sys, leakpro_nb.report as r; print({'typst', 'nbconvert', 'bs4'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_dataframe_becomes_a_table_with_its_index_name_in_the_one_header_row(typ):
    source = typ(notebook(code(display({"text/html": frame().to_html()})), audit=False))
    assert 'head: (([#strong[#"rank";];], [#strong[#"Attack";];]' in source
    assert "align: (right, left, right, right, right,)" in source


def test_styler_keeps_colours_and_hides_what_is_hidden(typ):
    html = frame().style.hide(axis="index").hide(["Records"], axis="columns").highlight_max(subset=["AUC"]).to_html()
    source = typ(notebook(code(display({"text/html": html})), audit=False))
    assert 'fill: rgb("#ffff00")' in source
    assert "Records" not in source
    assert "columns: (auto, auto, auto,)" in source
    assert "align: (left, right, right,)" in source


def test_shape_line_of_a_whole_frame_is_dropped_but_kept_for_a_cut_one(typ):
    import pandas as pd

    whole = pd.DataFrame({"a": range(3)})._repr_html_()
    cut = pd.DataFrame({"a": range(500)})._repr_html_()
    assert "rows × " not in typ(notebook(code(display({"text/html": whole + "<p>3 rows × 1 columns</p>"}))))
    assert "500 rows × 1 columns" in typ(notebook(code(display({"text/html": cut}))))


def row(*words: str, header: bool = False) -> list[Cell]:
    return [Cell((Text(word),), header=header) for word in words]


def test_wide_short_table_is_turned():
    names = [f"column {i}" for i in range(16)]
    table = tables.make([row("", *names, header=True)], [[*row("x", header=True), *row(*names)]])
    (turned,) = tables.fit(table)
    assert turned.columns == 2
    assert len(turned.body) == 16


def test_wide_long_table_is_split_and_repeats_its_index():
    names = [f"a long column {i}" for i in range(16)]
    body = [[*row(f"patient {n}", header=True), *row(*names)] for n in range(40)]
    parts = tables.fit(tables.make([row("", *names, header=True)], body))
    assert len(parts) > 1
    assert all(part.body[3][0].children == (Text("patient 3"),) for part in parts)
    assert sum(part.columns - 1 for part in parts) == 16


def test_narrow_table_is_left_alone():
    table = tables.make([row("a", "b", header=True)], [row("1", "2")])
    assert tables.fit(table) == [table]


def test_big_tables_are_capped_and_say_so():
    table = tables.make([row("a", header=True)], [row(str(n)) for n in range(5000)])
    assert len(table.body) == tables.MAX_ROWS
    assert table.note == "The first 1,000 of 5,000 rows are shown."
    wide = tables.make([], [row(*map(str, range(400)))] * 900)
    assert wide.columns == tables.MAX_COLUMNS
    assert len(wide.body) * wide.columns <= tables.MAX_CELLS


@pytest.mark.parametrize(("colspan", "rowspan"), [(999_999_999, 1), (1, 999_999_999), (3, 3), (0, -4)])
def test_spans_never_leave_the_table(colspan, rowspan):
    cell = Cell((Text("x"),), colspan=colspan, rowspan=rowspan)
    table = tables.make([], [[cell, *row("a")], row("b", "c")])
    assert table.columns <= tables.MAX_COLUMNS
    covered = sum(cell.colspan * cell.rowspan for line in table.body for cell in line)
    assert covered == table.columns * len(table.body)


def test_widgets_have_a_static_form(typ):
    nb = sample()
    source = typ(nb)
    for choice, value in [("Access", "scores"), ("Recipe known", "yes"), ("Shadows", "32"), ("Token", "(hidden)")]:
        assert re.search(rf'#"{re.escape(choice)}";.*#"{re.escape(value)}";', source)


def test_anywidget_output_widget_and_lost_state(typ):
    nb = notebook(code(view("any")), code(view("out")), code(view("lost")), code(view("gone", "access: labels")),
                  widgets=sample().metadata.widgets)  # fmt: skip
    source = typ(nb)
    assert "black-box" in source
    assert "export default" not in source
    assert "captured" in source
    assert "its state was not saved" in source
    assert "access: labels" in source


def test_tagged_cells_are_hidden_but_count(typ):
    hidden = code(display({"text/plain": "hidden words"}), tags=("remove-cell",))
    kept = code(display({"text/plain": "no output"}), tags=("remove-output",))
    last = result_cell()
    last.metadata["tags"] = ["remove-cell"]
    source = typ(notebook(hidden, kept, last))
    assert "hidden words" not in source
    assert "no output" not in source
    assert "style.verdict" in source


def test_printed_lines_are_bounded(typ):
    text = "\x1b[32mok\x1b[0m\n" + "".join(f"line {n}\n" for n in range(500))
    source = typ(notebook(code(new_output("stream", name="stdout", text=text))))
    assert "line 58" in source
    assert "line 59" not in source
    assert "441 more printed lines" in source
    assert "[32m" not in source


def test_alt_text_from_every_place(typ):
    png = {"image/png": PNG_TEXT}
    cells = [
        code(display(png, {"image/png": {"alt": "from the type"}})),
        code(display(png, {"alt": "from the output"})),
        code(display(png), alt="from the cell"),
        code(display(png)),
    ]
    source = typ(notebook(*cells))
    for alt in ["from the type", "from the output", "from the cell", "Figure without description"]:
        assert f'"{alt}"' in source


def test_svg_is_preferred_and_a_bad_one_gives_way(typ):
    both = {"image/png": PNG_TEXT, "image/svg+xml": "<svg"}
    assert ".png" in typ(notebook(code(display(both))))
    assert ".svg" in typ(sample())


def test_markdown_attachment_is_a_figure(typ):
    cell = markdown("before ![a cat](attachment:cat.png) after")
    cell["attachments"] = {"cat.png": {"image/png": PNG_TEXT}}
    source = typ(notebook(cell))
    assert '"a cat"' in source
    assert '#par[#"before ";]' in source


def test_heading_levels_never_skip(typ):
    source = typ(notebook(markdown("# T"), markdown("### deep"), markdown("##### deeper"), audit=False))
    assert re.findall(r"heading\(level: (\d)\)", source) == ["1", "2"]


def test_formula_without_a_safe_form_is_shown_as_source(typ):
    source = typ(notebook(markdown(r"$\text{#read(1)}$ and $\frac{1}{2}$")))
    assert r'#raw("\\text{#read(1)}")' in source
    assert "eval(" in source


def test_own_style_replaces_ours(tmp_path):
    from leakpro_nb.errors import InputError
    from leakpro_nb.report import TypstExporter

    own = tmp_path / "own.typ"
    own.write_text("// mine")
    _, resources = TypstExporter(style=str(own)).from_notebook_node(sample())
    assert resources["outputs"]["report_files/style.typ"] == b"// mine"
    with pytest.raises(InputError, match="readable Typst"):
        TypstExporter(style=str(tmp_path / "none.typ")).from_notebook_node(sample())


def test_exported_source_compiles_where_nbconvert_writes_it(tmp_path):
    import typst

    from leakpro_nb.report import TypstExporter

    source, resources = TypstExporter().from_notebook_node(sample(), {"output_files_dir": "a b_files"})
    for name, data in resources["outputs"].items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    (tmp_path / "a b.typ").write_text(source)
    assert typst.compile(str(tmp_path / "a b.typ"), pdf_standards=["a-3a", "ua-1"], timestamp=0)


def test_endless_words_can_be_broken(typ):
    source = typ(notebook(markdown("x" * 200 + " `" + "y" * 200 + "`")))
    assert "x" * 40 + "\u200b" + "x" * 40 in source
    assert "y" * 40 + "\u200b" + "y" * 40 in source
