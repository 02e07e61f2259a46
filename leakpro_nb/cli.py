"""The command line: ``leakpro-nb …``, also reachable as ``jupyter leakpro …``.

Exit codes: 0 done; 1 an audit started and did not finish; 2 something given was wrong, and nothing was written.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from leakpro_nb import __version__
from leakpro_nb.errors import InputError, LeakproError

if TYPE_CHECKING:
    from leakpro_nb.notebooks import Audit

__all__ = ["main"]


_RESERVED = ("target", "template", "threat", "out", "report", "timeout", "progress")


def _named(parameters: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """Return ``-p NAME VALUE`` pairs as a dict, refusing what has an option or an argument of its own."""
    for name, value in parameters:
        if name in _RESERVED:
            raise InputError(name, value, "is not given with -p: see leakpro-nb audit --help")
    return dict(parameters)


class _Group(click.Group):
    """Turns the package's own errors into one sentence and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except LeakproError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(2 if isinstance(error, InputError) else 1)
        except KeyboardInterrupt:
            click.echo("Stopped. The same command goes on from what is finished.", err=True)
            ctx.exit(1)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="leakpro-nb")
def main() -> None:
    """What can an attacker learn about the people in your data? Audits as notebooks, reported as PDF."""


@main.command()
@click.argument("target", required=False, type=click.Path(path_type=Path))
@click.option("--template", "-t", default="membership", show_default=True, help="Which question to ask.")
@click.option("--threat", type=click.Path(path_type=Path), help="Threat model (YAML).")
@click.option(
    "--out", "-o", default="audit", show_default=True, type=click.Path(path_type=Path), help="Folder to write."
)
@click.option(
    "--parameter", "-p", "parameters", nargs=2, multiple=True, metavar="NAME VALUE", help="A template's parameter."
)
@click.option("--table", type=click.Path(path_type=Path), help="Records (.csv, .parquet) instead of a target.py.")
@click.option("--model", type=click.Path(path_type=Path), help="With --table: the model (.skops).")
@click.option("--label", help="With --table: column of the true class.")
@click.option("--member", help="With --table: column that says whether the row trained the model.")
@click.option("--population", help="With --table: column that marks rows an attacker holds anyway.")
@click.option("--sensitive", multiple=True, help="With --table: column to break exposure down by; may be repeated.")
@click.option("--timeout", type=float, help="Seconds that the audit may take.")
@click.option("--report/--no-report", default=True, show_default=True, help="Make PDF and HTML.")
@click.option("--quiet", "-q", is_flag=True, help="No progress bars.")
def audit(
    target: Path | None,
    template: str,
    threat: Path | None,
    out: Path,
    parameters: tuple[tuple[str, str], ...],
    table: Path | None,
    timeout: float | None,
    report: bool,
    quiet: bool,
    **columns: Any,
) -> None:
    """Audit a TARGET: a target.py, or a table of predictions (.csv, .parquet)."""
    from leakpro_nb.notebooks import audit as run

    if (target is None) == (table is None):
        raise InputError(
            "target", str(target or "nothing"), "give either a target.py (or predictions), or --table and --model"
        )
    options: dict[str, Any] = {
        "template": template, "threat": threat, "out": out, "report": report, "timeout": timeout, "progress": not quiet,
        **_named(parameters),
    }  # fmt: skip
    if table is None:
        assert target is not None
        _tell(run(target, **options))
        return
    path = out / "target.py"
    created, before = not out.exists(), path.read_bytes() if path.exists() else None
    _write_target(path, table, **columns)
    try:
        _tell(run(path, **options))
    except InputError:
        if before is not None:
            path.write_bytes(before)
        else:
            path.unlink(missing_ok=True)
        if created and out.exists() and not any(out.iterdir()):
            out.rmdir()
        raise


@main.command()
@click.option("--template", "-t", default="membership", show_default=True, help="Which question to ask.")
@click.option(
    "--out", "-o", default="demo", show_default=True, type=click.Path(path_type=Path), help="Folder to write."
)
@click.option(
    "--parameter", "-p", "parameters", nargs=2, multiple=True, metavar="NAME VALUE", help="A template's parameter."
)
@click.option("--quiet", "-q", is_flag=True, help="No progress bars.")
def demo(template: str, out: Path, parameters: tuple[tuple[str, str], ...], quiet: bool) -> None:
    """Train a length-of-stay model on half of SUPPORT2 and audit it, to PDF."""
    from importlib.resources import as_file, files

    from leakpro_nb.notebooks import audit as run
    from leakpro_nb.notebooks import find

    options, name = _named(parameters), find(template).name
    out.mkdir(parents=True, exist_ok=True)
    target = out / "target.py"
    if not target.exists():
        own = files("leakpro_nb.demo") / f"{name}.py"  # where the question needs a model made for it
        with as_file(own if own.is_file() else files("leakpro_nb.demo") / "target.py") as source:
            shutil.copyfile(source, target)
    click.echo(f"What is audited is described in {target}: change it, and audit it again.")
    _tell(run(target, template=template, out=out, progress=not quiet, **options))


@main.command()
@click.argument("name", required=False)
def templates(name: str | None) -> None:
    """List the templates, or the parameters of the template NAME."""
    from leakpro_nb.notebooks import find
    from leakpro_nb.notebooks import templates as every

    if name is None:
        for template in every().values():
            click.echo(f"{template.name:20} {template.question}")
        return
    for parameter in find(name).parameters:
        click.echo(f"{parameter.name}: {parameter.annotation} = {parameter.default!r}")
        if parameter.help:
            click.echo(f"    {parameter.help}")


@main.command()
@click.argument("template")
@click.argument("notebook", type=click.Path(path_type=Path))
def new(template: str, notebook: Path) -> None:
    """Copy a TEMPLATE to NOTEBOOK, to be opened and run in JupyterLab."""
    from leakpro_nb.notebooks import find

    if notebook.exists():
        raise InputError("notebook", str(notebook), "it exists already; choose another name")
    shutil.copyfile(find(template).path, notebook)
    click.echo(f"Wrote {notebook}. Set its parameters in the first code cell.")


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--format", "formats", multiple=True, type=click.Choice(["pdf", "html"]), help="Default: both.")
def report(folder: Path, formats: tuple[str, ...]) -> None:
    """Make one report from all executed notebooks in FOLDER."""
    from leakpro_nb.report import build_report

    written = build_report(folder, formats=formats or ("pdf", "html"))
    for path in written:
        click.echo(path)
    if any("INCOMPLETE" in path.name for path in written):
        click.echo("Error: an audit in this folder did not finish; the report is stamped as incomplete.", err=True)
        click.get_current_context().exit(1)


def _tell(done: Audit) -> None:
    verdict = done.result.verdict
    click.echo(f"\n{verdict.headline}\n{verdict.sentence}\n")
    for path in (*done.reports, done.notebook, done.folder / "result.json", done.folder / "scores.parquet"):
        if path.exists():
            click.echo(f"  {path}")


_WRITTEN = '"""Written by leakpro-nb audit --table; change it, and audit it as target.py."""'


def _write_target(
    path: Path, table: Path, model: Path | None, label: str | None, member: str | None, population: str | None,
    sensitive: tuple[str, ...],
) -> None:  # fmt: skip
    """Write the target.py that says what the options say, once they have been found to make a target."""
    for name, value in (("--model", model), ("--label", label), ("--member", member)):
        if value is None:
            raise InputError(name, "missing", "with --table, give --model, --label and --member")
    from leakpro_nb.game.target import Target

    assert model is not None
    arguments: dict[str, Any] = {"label": label, "member": member, "population": population, "sensitive": sensitive}
    arguments["name"] = model.stem
    Target.from_table(table, model, **arguments)
    options = "".join(f"        {name}={value!r},\n" for name, value in arguments.items() if value)
    text = (
        f"{_WRITTEN}\n\nimport leakpro_nb as lp\n\n\n"
        "def target() -> lp.Target:\n    return lp.Target.from_table(\n"
        f"        {str(table.resolve())!r},\n        {str(model.resolve())!r},\n{options}    )\n"
    )
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise InputError("out", str(path), "exists and says something else; audit it as it is, or name another folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
