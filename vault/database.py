"""The table ``[database]``: which database, and how a server is reached."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from vault.storage.address import DEFAULT_PORTS

DATABASE_FILE = "strongroom.db"
_KNOWN = "known are sqlite:relative/path, sqlite:/absolute/path, postgresql://USER@HOST:PORT/NAME, mysql://... and mariadb://..."
_HOST = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?", re.ASCII
)
_MAX_PORT = 65_535
_SESSIONS = ("read-write", "primary", "any")


class SecretReference(BaseModel):
    """Where a secret is: a file that only we can read, or a variable of the environment."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str | None = None
    env: str | None = None

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if (self.file is None) == (self.env is None):
            raise ValueError('one of the two: { file = "PATH" } or { env = "NAME" }')
        return self


class Database(BaseModel):
    """Where the records lie."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = f"sqlite:{DATABASE_FILE}"
    replica_url: str | None = None
    password: SecretReference | None = None
    ca: Path | None = None
    insecure_plain: bool = False
    pool_size: int = Field(default=8, ge=1, le=64)
    pool_wait_seconds: float = Field(default=3.0, gt=0, le=60)
    connect_timeout_seconds: float = Field(default=3.0, ge=1, le=60)
    statement_timeout_seconds: float = Field(default=5.0, ge=1, le=600)

    @field_validator("password", mode="before")
    @classmethod
    def _check_reference(cls, value: Any) -> Any:
        if isinstance(value, str):
            raise ValueError(  # noqa: TRY004  # what pydantic reports
                'a secret does not stand in the configuration: write { file = "PATH" } or { env = "NAME" }'
            )
        return value

    @model_validator(mode="after")
    def _check_url(self) -> Self:
        scheme, separator, rest = self.url.partition(":")
        if not separator or not rest or scheme not in {"sqlite", *DEFAULT_PORTS}:
            raise ValueError(f"url: no known scheme; {_KNOWN}")
        if scheme == "sqlite":
            if self.password or self.ca or self.replica_url:
                raise ValueError(
                    "password, ca and replica_url are for database servers, and url names a SQLite file"
                )
            return self
        if "@" in rest and ":" in rest.rpartition("@")[0]:
            raise ValueError(
                'url: a password does not stand in the configuration; take it out, and write password = { file = "PATH" }'
            )
        self._check_server_url(self._parts)
        if self.replica is not None and self.replica.scheme != scheme:
            raise ValueError(f"replica_url: a replica of {scheme} has the scheme {scheme}, too")
        return self

    def _check_server_url(self, parts: SplitResult) -> None:
        if not _names_one_database(parts) or not self.user:
            raise ValueError(
                f"url: {parts.scheme}://USER@HOST:PORT/NAME is needed; %40 stands for an @ in the user"
            )
        unknown = sorted(set(self._query) - {"socket", "target_session_attrs"})
        if unknown:
            raise ValueError(f"url: unknown after the question mark: {', '.join(unknown)}")
        hosts = self.hosts
        if bool(hosts) == (self.socket is not None):
            raise ValueError("url: either hosts, or ?socket=PATH without a host")
        if len(hosts) > 1 and parts.scheme != "postgresql":
            raise ValueError(
                "url: several hosts are for PostgreSQL; put a proxy in front of a MariaDB cluster"
            )
        if self._query.get("target_session_attrs", "any") not in _SESSIONS or (
            "target_session_attrs" in self._query and parts.scheme != "postgresql"
        ):
            raise ValueError(
                f"url: target_session_attrs is for PostgreSQL, and one of {', '.join(_SESSIONS)}"
            )

    @property
    def replica(self) -> Database | None:
        """How the replica is reached: as the database itself, but at its own URL."""
        if self.replica_url is None:
            return None
        try:
            return Database.model_validate(self.model_dump() | {"url": self.replica_url, "replica_url": None})
        except ValidationError as error:
            raise ValueError(f"replica_{error.errors()[0]['msg'].removeprefix('Value error, ')}") from error

    @property
    def scheme(self) -> str:
        """``sqlite``, ``postgresql``, ``mysql`` or ``mariadb``."""
        return self.url.partition(":")[0]

    @property
    def is_server(self) -> bool:
        """Whether the database is on a server."""
        return self.scheme != "sqlite"

    @property
    def path(self) -> str:
        """The SQLite file as it stands in the URL."""
        return self.url.partition(":")[2]

    @property
    def user(self) -> str:
        """Who logs in."""
        return unquote(self._parts.netloc.rpartition("@")[0])

    @property
    def name(self) -> str:
        """The name of the database on its server."""
        return unquote(self._parts.path.removeprefix("/"))

    @property
    def socket(self) -> str | None:
        """A Unix socket; for PostgreSQL, its folder."""
        return self._query.get("socket")

    @property
    def hosts(self) -> tuple[tuple[str, int], ...]:
        """The hosts with their ports."""
        text = self._parts.netloc.rpartition("@")[2]
        return tuple(self._host(part) for part in text.split(",")) if text else ()

    @property
    def target_session_attrs(self) -> Literal["read-write", "primary", "any"] | None:
        """Which of several hosts will do: one that takes writes, unless something else is said."""
        named: Any = self._query.get("target_session_attrs")
        return named or ("read-write" if len(self.hosts) > 1 else None)

    @property
    def is_encrypted(self) -> bool:
        """Whether the connection has to be TLS with a checked certificate."""
        stays_here = all(_is_loopback(host) for host, _ in self.hosts)
        return self.ca is not None or not (stays_here or self.insecure_plain)

    @property
    def _parts(self) -> SplitResult:
        return urlsplit(self.url)

    @property
    def _query(self) -> dict[str, str]:
        return dict(parse_qsl(self._parts.query, keep_blank_values=True))

    def _host(self, text: str) -> tuple[str, int]:
        found = _HOST.fullmatch(text)
        port = int(found["port"] or DEFAULT_PORTS[self.scheme]) if found else 0
        if found is None or not 0 < port <= _MAX_PORT:
            raise ValueError(
                "url: a host is a name or an address and a port, for example db1:5432 or [::1]:5432"
            )
        return found["six"] or found["name"], port


def _names_one_database(parts: SplitResult) -> bool:
    """Whether the URL names one database, and nothing behind it."""
    name = parts.path.removeprefix("/")
    return bool(name) and "/" not in name and not parts.fragment and parts.path.startswith("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
