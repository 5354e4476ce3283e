"""The configuration: TOML file, overridden by ``STRONGROOM_SECTION__KEY``, typed, unknown keys refused.

Every key is shown in ``config.example.toml``; a test keeps the two together.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.sources import TomlConfigSettingsSource

from vault.core.errors import MisconfiguredError
from vault.database import Database

PREFIX = "STRONGROOM_"
DELIMITER = "__"
CLIENT_VARIABLES = frozenset({"STRONGROOM_SERVER", "STRONGROOM_CREDENTIAL_FILE", "STRONGROOM_PURPOSE"})
"""Variables that the client commands read; they are no configuration of the server."""
KEY_FILE = "keys.json"
_NAME = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
_MAX_PORT = 65_535


def _checked_name(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise ValueError("names match [a-z][a-z0-9_]*")
    return name


Name = Annotated[str, AfterValidator(_checked_name)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Tls(_Section):
    """Certificate and key of the server, PEM files."""

    certificate: Path
    key: Path


class Server(_Section):
    """Where and how the server listens."""

    listen: str = "127.0.0.1:8420"
    workers: int = Field(default=2, ge=1, le=64)
    insecure_http: bool = False
    tls: Tls | None = None

    @property
    def host(self) -> str:
        """The address part of ``listen``."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port part of ``listen``."""
        return int(self.listen.rpartition(":")[2])

    @model_validator(mode="after")
    def _check_listen(self) -> Self:
        try:
            address = ipaddress.ip_address(self.host)
            is_port = 0 < self.port <= _MAX_PORT
        except ValueError:
            is_port = False
        if not is_port:
            raise ValueError(
                'listen is an IP address and a port, for example "127.0.0.1:8420" or "[::1]:8420"'
            )
        if not (address.is_loopback or self.tls or self.insecure_http):
            raise ValueError(
                f"listen = {self.listen} can be reached from other machines and has no TLS; set [server.tls], or "
                "insecure_http = true if something in front of the server does TLS"
            )
        return self


class Worker(_Section):
    """Work in the background."""

    with_server: bool = True
    admin: bool = False
    interval_seconds: int = Field(default=30, ge=1, le=3600)


class Provider(BaseModel):
    """A key provider; the keys beside ``type`` are the provider's own, and it refuses those it does not know."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str

    @property
    def administration(self) -> Mapping[str, Any]:
        """The table ``[providers.NAME.admin]``: what the administration door is opened with, and nobody else sees."""
        table: Mapping[str, Any] = (self.model_extra or {}).get("admin", {})
        return table

    @model_validator(mode="after")
    def _check_admin(self) -> Self:
        if not isinstance(self.administration, dict):
            raise ValueError("admin is a table: [providers.NAME.admin]")  # noqa: TRY004  # what pydantic reports
        return self


class KeyringSection(_Section):
    """Where a keyring's new versions are made."""

    provider: str
    key: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class Logs(_Section):
    """What the processes write to standard error."""

    level: Literal["debug", "info", "warning", "error", "critical"] = "info"
    format: Literal["auto", "json", "text"] = "auto"


class DataKeyCacheSection(_Section):
    """How many unwrapped data keys of remote providers a process keeps, and for how long."""

    max_entries: int = Field(default=10_000, ge=0, le=1_000_000)
    max_age_seconds: float = Field(default=300.0, gt=0, le=86_400)
    max_uses: int = Field(default=1_000, ge=1)


class _SectionVariables(EnvSettingsSource):
    """Only STRONGROOM_SECTION__KEY: without the filter STRONGROOM_SERVER would be read as the whole section."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name: value for name, value in super()._load_env_vars().items() if DELIMITER in name}


class Settings(BaseSettings):
    """Everything that can be configured."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter=DELIMITER, extra="forbid", frozen=True, toml_file=None
    )

    server: Server = Server()
    worker: Worker = Worker()
    database: Database = Database()
    providers: dict[Name, Provider] = {"disk": Provider.model_validate({"type": "file", "path": KEY_FILE})}
    keyrings: dict[Name, KeyringSection] = {"default": KeyringSection(provider="disk", key="records")}
    data_key_cache: DataKeyCacheSection = DataKeyCacheSection()
    logs: Logs = Logs()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # replaced by the filtered one
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # .env files are not read
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # secrets are named by reference
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over file."""
        return init_settings, _SectionVariables(settings_cls), TomlConfigSettingsSource(settings_cls)

    @model_validator(mode="after")
    def _check_references(self) -> Self:
        if "default" not in self.keyrings:
            raise ValueError("keyrings: there is no table [keyrings.default]; every vault has this one")
        for name, keyring in self.keyrings.items():
            if keyring.provider not in self.providers:
                raise ValueError(
                    f"keyrings.{name}.provider: there is no table [providers.{keyring.provider}]"
                )
        places = [(keyring.provider, keyring.key) for keyring in self.keyrings.values()]
        if len(set(places)) < len(places):
            raise ValueError("keyrings: each needs a key of its own; two name the same key of one provider")
        return self


@dataclass(frozen=True, slots=True)
class Configuration:
    """Settings and where they apply.

    Attributes:
        settings: the typed settings.
        folder: relative paths start here.
        source: the file, or None for the embedded default.
    """

    settings: Settings
    folder: Path
    source: Path | None

    @property
    def database_path(self) -> Path:
        """The SQLite file, if there is one."""
        return self.folder / self.settings.database.path

    @property
    def has_database_server(self) -> bool:
        """Whether the database is on a server, and no file of ours."""
        return self.settings.database.is_server

    @property
    def database_place(self) -> str:
        """The database's address for people: no user, no password."""
        database = self.settings.database
        if not database.is_server:
            return str(self.database_path)
        hosts = ",".join(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in database.hosts
        )
        return f"{database.scheme}://{hosts or database.socket}/{database.name}"

    def command(self, words: str) -> str:
        """A command of ours for this configuration, as somebody can type it."""
        return f"strongroom {words} " + (
            f"--config {self.source}" if self.source else f"--data {self.folder}"
        )

    @property
    def worker_administers(self) -> bool:
        """Whether the server's own background worker has the administration door."""
        return self.is_embedded or self.settings.worker.admin

    @property
    def is_embedded(self) -> bool:
        """Whether this is the embedded default: key and data side by side in one folder."""
        return self.source is None


def load_configuration(
    file: Path | None, data: Path | None, overrides: Mapping[str, Any] | None = None
) -> Configuration:
    """Read the configuration.

    Args:
        file: a TOML file; None for the embedded default.
        data: the folder of the embedded default; None means ``./strongroom-data``.
        overrides: whole sections that win over file and environment.

    Raises:
        MisconfiguredError: names every key or variable that is wrong, without showing its value.
    """
    _refuse_unknown_variables()
    if file is not None and data is not None:
        raise MisconfiguredError("Choose one: --config FILE or --data DIR.")
    if file is not None and not file.is_file():
        raise MisconfiguredError(f"There is no configuration file {file}; config.example.toml shows one.")

    class _FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=file)

    try:
        settings = _FromFile(**dict(overrides or {}))
    except ValidationError as error:
        raise MisconfiguredError(_sentences(error, file)) from None
    except ValueError as error:
        raise MisconfiguredError(f"{file} is not valid TOML: {error}") from error
    folder = (file.parent if file else data or Path("strongroom-data")).resolve()
    return Configuration(settings, folder, file)


def _refuse_unknown_variables() -> None:
    sections = {PREFIX + name.upper() for name in Settings.model_fields}
    for variable in sorted(os.environ):
        if not variable.upper().startswith(PREFIX) or variable in CLIENT_VARIABLES:
            continue
        section, delimiter, _ = variable.partition(DELIMITER)
        if not delimiter or section not in sections:
            raise MisconfiguredError(
                f"The environment variable {variable} maps to no configuration key; the form is "
                f"{PREFIX}SECTION{DELIMITER}KEY, for example STRONGROOM_SERVER{DELIMITER}LISTEN."
            )


def _sentences(error: ValidationError, file: Path | None) -> str:
    lines = [f"The configuration ({file or 'embedded default and environment'}) is not valid:"]
    for item in error.errors(include_url=False, include_input=False, include_context=False):
        place = ".".join(str(part) for part in item["loc"]) or "configuration"
        what = (
            "unknown key" if item["type"] == "extra_forbidden" else item["msg"].removeprefix("Value error, ")
        )
        lines.append(f"  {place}: {what}")
    return "\n".join(lines)
