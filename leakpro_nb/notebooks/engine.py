"""The papermill engine called ``leakpro``; ``papermill --engine leakpro`` uses it too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from leakpro_nb.results import MIME_TYPE

__all__ = ["LeakproEngine"]


class LeakproEngine:
    """Runs a notebook over local sockets, within a time limit, and leaves no process behind.

    It has the methods of ``papermill.engines.Engine`` but does not inherit from it: papermill loads its
    engines while it is itself being imported, so this module must be importable before papermill is.
    """

    @classmethod
    def execute_notebook(
        cls,
        nb: Any,
        kernel_name: str,
        *,
        output_path: str | None = None,
        progress_bar: bool | dict[str, Any] = True,
        log_output: bool = False,
        autosave_cell_every: int = 30,
        **options: Any,
    ) -> Any:
        """Run the cells of ``nb`` in place, saving to ``output_path`` as they finish.

        ``options`` are papermill's, and ``timeout``, the seconds that all cells together may take.
        """
        from leakpro_nb.notebooks.kernel import Execution, run_cells

        name = Path(options.get("input_path") or "notebook").stem
        nb.metadata["leakpro"] = {**nb.metadata.get("leakpro", {}), "template": name, "status": "running"}
        execution = Execution(nb, output_path, log_output, progress_bar, autosave_cell_every)
        execution.notebook_start()
        try:
            run_cells(execution, kernel_name, log_output=log_output, **options)
            nb.metadata["leakpro"]["status"] = "complete" if _carries_result(nb) else "failed"
        except BaseException:
            nb.metadata["leakpro"]["status"] = "failed"
            nb.metadata["papermill"]["exception"] = True
            raise
        finally:
            execution.finish()
        return nb

    @classmethod
    def nb_kernel_name(cls, nb: Any, name: str | None = None) -> str:
        """Return the kernel's name, from ``name`` or else the notebook."""
        from papermill.utils import nb_kernel_name

        return nb_kernel_name(nb, name)

    @classmethod
    def nb_language(cls, nb: Any, language: str | None = None) -> str:
        """Return the language, from ``language`` or else the notebook."""
        from papermill.utils import nb_language

        return nb_language(nb, language)


def _carries_result(nb: Any) -> bool:
    outputs = (output for cell in nb.cells for output in cell.get("outputs", []))
    return not nb.metadata["papermill"]["exception"] and any(MIME_TYPE in o.get("data", {}) for o in outputs)
