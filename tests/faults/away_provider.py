"""A key provider of a third party that is away as long as a file says so, installed in a folder of its own."""

from __future__ import annotations

import os
from pathlib import Path

TYPE = "switched"
_MODULE = """
from pathlib import Path
from keyproviders.errors import ProviderDeniedError, ProviderUnavailableError
from keyproviders.interface import Health, HealthStatus, ProviderSettings
from keyproviders.local_file import LocalFileProviderType

class Switched:
    def __init__(self, behind, switch):
        self._behind, self._switch = behind, switch

    def __getattr__(self, name):
        return getattr(self._behind, name)

    def unwrap(self, items):
        if self._switch.exists() and self._switch.read_text() == "everything":
            raise ProviderUnavailableError("10.0.0.7 does not answer", provider=self._behind.name)
        return self._behind.unwrap(items)

    def health(self, canary=None):
        if self._switch.exists():
            return Health(HealthStatus.DOWN, "10.0.0.7 does not answer")
        return self._behind.health(canary)

class Type:
    def open(self, settings):
        options = dict(settings.options)
        switch = Path(options.pop("switch"))
        return Switched(LocalFileProviderType().open(ProviderSettings(settings.name, options, settings.folder)), switch)

    def open_administration(self, settings):
        options = dict(settings.options)
        options.pop("switch")
        return LocalFileProviderType().open_administration(ProviderSettings(settings.name, options, settings.folder))
"""


class AwayProvider:
    """Makes a configuration whose keys come from that provider.

    Attributes:
        config: the configuration file.
        package: the folder that the provider is installed in.
        environment: what a process needs to find the provider.
    """

    def __init__(self, folder: Path) -> None:
        self.package = folder / "package"
        info = self.package / "switched-1.0.dist-info"
        info.mkdir(parents=True)
        (self.package / "switched_provider.py").write_text(_MODULE)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: switched\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(
            f"[strongroom.key_providers]\n{TYPE} = switched_provider:Type\n"
        )
        self._switch = folder / "away"
        self.config = folder / "strongroom.toml"
        self.config.touch(mode=0o600)
        self.config.write_text(
            "[worker]\ninterval_seconds = 1\n"
            '[database]\nurl = "sqlite:data/strongroom.db"\n'
            f'[providers.far]\ntype = "{TYPE}"\npath = "keys/keys.json"\nswitch = "{self._switch}"\n'
            '[keyrings.default]\nprovider = "far"\nkey = "records"\n'
        )
        paths = [str(self.package), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.environment = {"PYTHONPATH": os.pathsep.join(paths)}

    @property
    def database(self) -> Path:
        return self.config.parent / "data" / "strongroom.db"

    def go_away(self, what: str = "everything") -> None:
        """Answer no more: ``everything``, or only to proofs of life (``canary``)."""
        self._switch.write_text(what)

    def come_back(self) -> None:
        self._switch.unlink()
