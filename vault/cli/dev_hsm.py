"""A SoftHSM token in a folder: for trying the PKCS#11 provider on a laptop, and for its tests.

SoftHSM is software. It shows how an HSM is worked with, and protects nothing: never for data that matters.
"""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import click

from vault.cli.failure import Failure

__all__ = ["MODULE", "SoftHsm", "command"]

MODULE = "libsofthsm2.so"
LABEL = "strongroom"
_TIMEOUT_SECONDS = 60
_PIN_BYTES = 12
_CONFIGURATION = """\
directories.tokendir = {tokens}
objectstore.backend = file
log.level = ERROR
slots.removable = false
library.reset_on_fork = {reset_on_fork}
"""
_OURS = {"tokens", "softhsm2.conf", "pin", "so-pin", f"pkcs11-{Path(MODULE).stem}.lock"}
_SHOWN = """\
In the shell that starts Strongroom:

  export SOFTHSM2_CONF={configuration}

In the configuration:

  [providers.hsm]
  type = "pkcs11"
  module = "libsofthsm2.so"
  token_label = "{label}"
  pin = {{ file = "{pin}" }}

For development only: SoftHSM is software, and protects nothing."""


@dataclass(frozen=True)
class SoftHsm:
    """The tokens of one folder.

    Attributes:
        folder: for tokens, configuration and PINs.
        reset_on_fork: let the library forget everything in a forked child, as some HSMs' libraries do.
    """

    folder: Path
    reset_on_fork: bool = False

    @property
    def tokens(self) -> Path:
        """Where the tokens are, a folder each."""
        return self.folder / "tokens"

    @property
    def configuration(self) -> Path:
        """What ``SOFTHSM2_CONF`` names."""
        return self.folder / "softhsm2.conf"

    @property
    def pin(self) -> Path:
        """The file with the PIN, as the provider reads it."""
        return self.folder / "pin"

    def make(self, pin: str) -> None:
        """Make the folder, with mode 0700, its configuration and its PIN, without any token yet."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.tokens.mkdir(mode=0o700, exist_ok=True)
        for path, text in ((self.pin, pin), (self._so_pin, secrets.token_hex(_PIN_BYTES))):
            path.touch(0o600)
            path.write_text(text)
        self.configuration.write_text(
            _CONFIGURATION.format(tokens=self.tokens, reset_on_fork=str(self.reset_on_fork).lower())
        )

    def add_token(self, label: str) -> None:
        """Make a token.

        Raises:
            Failure: SoftHSM is not installed, or refused.
        """
        self._softhsm("--init-token", "--free", "--label", label)

    def wipe_token(self, label: str) -> None:
        """Initialise a token again: everything in it is gone.

        Raises:
            Failure: SoftHSM is not installed, or refused.
        """
        self._softhsm("--init-token", "--token", label, "--label", label)

    @property
    def _so_pin(self) -> Path:
        return self.folder / "so-pin"

    def _softhsm(self, *arguments: str) -> None:
        tool = shutil.which("softhsm2-util")
        if tool is None:
            raise Failure(
                "There is no SoftHSM here.", next_step="On Debian or Ubuntu: sudo apt-get install softhsm2"
            )
        # The tool takes PINs on its command line, where others on this machine may see them for a moment: one more
        # reason why this is for development only.
        pins = ["--pin", self.pin.read_text(), "--so-pin", self._so_pin.read_text()]
        done = subprocess.run(  # noqa: S603 - a program we looked up, no shell
            [tool, *arguments, *pins],
            env=os.environ | {"SOFTHSM2_CONF": str(self.configuration)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_SECONDS,
        )
        if done.returncode:
            raise Failure(f"softhsm2-util failed: {(done.stderr or done.stdout).strip()}")


@click.command()
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("strongroom-hsm"),
    show_default=True,
    help="Where the token and its PIN are.",
)
@click.option("--remove", is_flag=True, help="Remove the folder, with the token and all keys in it.")
def command(folder: Path, remove: bool) -> None:
    """Make a SoftHSM token for development and print the configuration that uses it."""
    hsm = SoftHsm(folder.resolve())
    if remove:
        _remove(hsm)
        return
    if hsm.configuration.exists():
        click.echo(f"There is a token in {hsm.folder} already.\n")
    else:
        if hsm.folder.exists() and any(hsm.folder.iterdir()):
            raise Failure(
                f"{hsm.folder} is not empty and no folder of ours.", next_step="Name another --folder."
            )
        _make(hsm)
    click.echo(_SHOWN.format(configuration=shlex.quote(str(hsm.configuration)), label=LABEL, pin=hsm.pin))


def _make(hsm: SoftHsm) -> None:
    try:
        hsm.make(secrets.token_hex(_PIN_BYTES))
        hsm.add_token(LABEL)
    except BaseException:
        shutil.rmtree(hsm.folder, ignore_errors=True)
        raise
    click.echo(f"Made a token in {hsm.folder}.\n")


def _remove(hsm: SoftHsm) -> None:
    # Only what this command makes: a mistyped --folder must not cost anybody a home.
    if not hsm.folder.exists():
        click.echo(f"There is nothing in {hsm.folder}.")
        return
    if not {each.name for each in hsm.folder.iterdir()} <= _OURS or not hsm.configuration.exists():
        raise Failure(
            f"{hsm.folder} holds more than this command makes, so it is left alone.",
            next_step="Look into it, and remove it by hand.",
        )
    shutil.rmtree(hsm.folder)
    click.echo(f"Removed {hsm.folder} and the keys in its token.")


if __name__ == "__main__":
    command()
