"""Templates of audits: finding them, checking their parameters, running them."""

from __future__ import annotations

from leakpro_nb.notebooks.catalogue import Template, find, templates
from leakpro_nb.notebooks.parameters import Parameter, check
from leakpro_nb.notebooks.run import Audit, audit, execute

__all__ = ["Audit", "Parameter", "Template", "audit", "check", "execute", "find", "templates"]
