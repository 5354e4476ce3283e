"""``strongroom doctor``: look at everything around a vault, and say what to mend and how."""

from vault.cli.doctor.command import command

__all__ = ["command"]
