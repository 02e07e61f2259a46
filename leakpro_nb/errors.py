"""Errors that tell a user which field is wrong, with which value, and what to do."""

from __future__ import annotations

__all__ = ["AccessDenied", "AuditFailed", "InputError", "LeakproError"]


class LeakproError(Exception):
    """Base of every error that leakpro_nb raises on purpose."""


class InputError(LeakproError, ValueError):
    """Bad input, found before any expensive work starts.

    Parameters
    ----------
    field
        What is wrong, in the user's words (a parameter, a column, a file).
    value
        The offending value; long values are shortened in the message.
    remedy
        What to do about it, as a sentence.
    """

    def __init__(self, field: str, value: object, remedy: str) -> None:
        shown = value if isinstance(value, str) else repr(value)
        if len(shown) > 120:
            shown = f"{shown[:117]}..."
        self.field, self.value, self.remedy = field, shown, remedy
        super().__init__(f"{field} = {shown}: {remedy}")

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str, str]]:
        """Survive the trip back from a worker process."""
        return type(self), (self.field, self.value, self.remedy)


class AccessDenied(LeakproError):
    """An attack asked its view for something that the threat model does not reveal."""


class AuditFailed(LeakproError):
    """An audit started but did not reach its end, so there is no result to report."""
