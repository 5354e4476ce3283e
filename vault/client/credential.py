"""The bearer credential: checked before it is used, so that a wrong file is found here and not in a server's log."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from vault.client.errors import Misconfigured

_SHAPE = re.compile(r"strongroom_[A-Za-z0-9_-]{43}", re.ASCII)
_ENOUGH = 4096
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def checked(credential: str) -> str:
    """Return the credential if it has the form of one.

    Raises:
        Misconfigured: it has not; the sentence does not repeat it.

    Security: a line break in it would otherwise start a header of its own.
    """
    if not _SHAPE.fullmatch(credential):
        raise Misconfigured(
            "This is not a Strongroom credential: one starts with strongroom_ and goes on for 43 letters, digits, - or _.",
            code="credential-malformed",
        )
    return credential


def read_credential(path: Path) -> str:
    """Read a credential from the first line of a file that only its owner may read.

    Raises:
        Misconfigured: no such file, open to others, or no credential in it.
    """
    try:
        with path.open("rb") as file:
            # The open file is asked, not the path: nothing can be put in its place between check and read.
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & _OTHERS:
                raise Misconfigured(
                    f"The credential file {path} has mode {mode:04o}, so others may read it. Run: chmod 600 {path}",
                    code="credential-file-mode",
                )
            line = file.read(_ENOUGH).partition(b"\n")[0].strip()
    except OSError as error:
        raise Misconfigured(
            f"The credential file {path} cannot be read: {error.strerror}.", code="credential-file"
        ) from error
    try:
        return checked(line.decode("ascii", "replace"))
    except Misconfigured as error:
        raise Misconfigured(f"{path}: {error.detail}", code=error.code) from None
