"""Vaults on a database server, made and run by the real command from a configuration file."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from vault.storage.address import ServerAddress

Run = Callable[..., subprocess.CompletedProcess[str]]
"""The fixture ``strongroom``."""


@dataclass(frozen=True, slots=True)
class ServedVault:
    """A vault and how it is reached.

    Attributes:
        config: its configuration file; key file and password lie beside it.
        credential: the administrator's.
        address: where its database is.
    """

    config: Path
    credential: str = field(repr=False)
    address: ServerAddress

    @property
    def data(self) -> Path:
        """What ``start_server`` takes for its data folder: nothing is put in there."""
        return self.config.parent / "data"

    def elsewhere(
        self, folder: Path, address: ServerAddress, *, url: str | None = None, more: str = ""
    ) -> ServedVault:
        """The same vault with its rows at another address, or reached in another way; see :func:`write_config`."""
        folder.mkdir(mode=0o700)
        shutil.copy2(self.config.parent / "keys.json", folder)
        return replace(self, config=write_config(folder, address, url=url, more=more), address=address)


def write_config(folder: Path, address: ServerAddress, *, url: str | None = None, more: str = "") -> Path:
    """Write a configuration file.

    Args:
        folder: where; password and key file belong there, too.
        address: the database.
        url: how it is reached, if the address does not say it.
        more: further lines of ``[database]``.
    """
    password = folder / "password"
    password.touch(0o600)
    password.write_bytes(address.password or b"")
    url = url or address.place.replace("://", f"://{address.user}@", 1)
    file = folder / "strongroom.toml"
    file.write_text(
        f'[database]\nurl = "{url}"\npassword = {{ file = "password" }}\n{more}\n'
        '[providers.disk]\ntype = "file"\npath = "keys.json"\n\n'
        '[keyrings.default]\nprovider = "disk"\nkey = "records"\n'
    )
    return file


def make_vault(
    strongroom: Run, folder: Path, address: ServerAddress, *, url: str | None = None, more: str = ""
) -> ServedVault:
    """Make a vault with ``strongroom init``; see :func:`write_config`."""
    folder.mkdir(mode=0o700, exist_ok=True)
    config = write_config(folder, address, url=url, more=more)
    credential = folder / "credential"
    made = strongroom("init", "--config", config, "--credential-file", credential)
    assert made.returncode == 0, made.stderr
    return ServedVault(config, credential.read_text().strip(), address)


def sentence_of(done: subprocess.CompletedProcess[str]) -> str:
    """What a command said that refused: one line, and no traceback."""
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("Error: ")
    return line
