"""Who can read the vault's files, to whom they belong, and whether key and data lie apart."""

from __future__ import annotations

import os
import pwd
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from vault.cli.doctor.findings import Code, Finding, Patient, fine, not_checked
from vault.config import Configuration

CHECK = "files"
_OTHERS = 0o077
_OTHERS_OR_GROUP_WRITES = 0o027
_KEY_FILE_MODES = (0o600, 0o400)
_COMPANIONS = ("", "-wal", "-shm", ".lock", ".server")
_SECRETS = ("admin-credential", "curl-headers")
"""What ``demo`` leaves in its data folder."""


def check(patient: Patient) -> list[Finding]:
    """Look at the modes and owners of everything that is there."""
    configuration = patient.configuration
    found = [
        *_owners(patient),
        *_folders(configuration),
        *_databases(configuration),
        *_keys(configuration),
        *_secrets(configuration),
        *_beside(configuration),
    ]
    if not found and configuration.has_database_server:
        return [fine(CHECK, "modes are right; the database is on a server")]
    if not found and not configuration.database_path.exists():
        return [not_checked(CHECK, "there is no vault")]
    return found or [fine(CHECK, f"modes and owners are right in {configuration.database_path.parent}")]


def unreachable(configuration: Configuration) -> Finding | None:
    """Say so if the places that the configuration names cannot even be looked at."""
    path = configuration.folder
    try:
        for path in (*_files_of_database(configuration), *key_files(configuration)):
            path.exists()
    except OSError as error:
        return Finding(
            CHECK,
            Code.FILE_UNREACHABLE,
            f"{path} cannot be looked at ({error.strerror}): it may belong to another user, or not be a path at all.",
            f"ls -ld {_quoted(path.parent)}",
        )
    return None


def owner_of(path: Path) -> str:
    """The name of a file's owner, or its number."""
    number = path.stat().st_uid
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"#{number}"


def is_ours(configuration: Configuration) -> bool:
    """Whether this command runs as the user to whom the database belongs."""
    return configuration.database_path.stat().st_uid == os.geteuid()


def key_files(configuration: Configuration) -> Iterator[Path]:
    """The key files of all providers of type ``file``, whether they exist or not."""
    for provider in configuration.settings.providers.values():
        options = provider.model_dump()
        if options["type"] == "file" and isinstance(options.get("path"), str):
            yield configuration.folder / options["path"]


def database_files(configuration: Configuration) -> list[Path]:
    """The database and what lies beside it, as far as it exists."""
    every = (
        database.with_name(database.name + companion)
        for database in _files_of_database(configuration)
        for companion in _COMPANIONS
    )
    return [path for path in every if path.exists()]


def _files_of_database(configuration: Configuration) -> list[Path]:
    return [] if configuration.has_database_server else [configuration.database_path]


def vault_folders(configuration: Configuration) -> list[Path]:
    """The folders that the vault's files lie in, as far as they exist."""
    databases = (path.parent for path in _files_of_database(configuration))
    every = [*databases, *(path.parent for path in key_files(configuration))]
    return [path for path in dict.fromkeys(every) if path.is_dir()]


def _owners(patient: Patient) -> Iterator[Finding]:
    configuration = patient.configuration
    database = configuration.database_path
    if configuration.has_database_server or not database.exists():
        return
    owner = owner_of(database)
    if not is_ours(configuration):
        yield Finding(
            CHECK,
            Code.FILE_OWNER,
            f"{database} belongs to {owner}, and this command runs as another user.",
            f"sudo -u {shlex.quote(owner)} {patient.command('doctor')}",
        )
    others = [*database_files(configuration), *filter(Path.exists, key_files(configuration))]
    for path in others:
        if path.stat().st_uid != database.stat().st_uid:
            yield Finding(
                CHECK,
                Code.FILE_OWNER,
                f"{path} belongs to {owner_of(path)}, and the database to {owner}: the server can be kept from it.",
                f"chown {shlex.quote(owner.removeprefix('#'))} {_quoted(path)}",
            )


def _folders(configuration: Configuration) -> Iterator[Finding]:
    for folder in vault_folders(configuration):
        if _mode(folder) & _OTHERS:
            yield Finding(
                CHECK,
                Code.FOLDER_MODE,
                f"The folder {folder} has mode {_mode(folder):04o}: others can look into it.",
                f"chmod 700 {_quoted(folder)}",
            )


def _databases(configuration: Configuration) -> Iterator[Finding]:
    opened = [path for path in database_files(configuration) if _mode(path) & _OTHERS]
    if opened:
        modes = ", ".join(f"{path.name} {_mode(path):04o}" for path in opened)
        yield Finding(
            CHECK,
            Code.FILE_MODE,
            f"Others can open the database or what lies beside it ({modes}).",
            # SQLite gives the files that it makes beside a database the mode of that database.
            f"chmod 600 {_quoted(configuration.database_path)}*",
        )


def _keys(configuration: Configuration) -> Iterator[Finding]:
    for path in filter(Path.exists, key_files(configuration)):
        if _mode(path) not in _KEY_FILE_MODES:
            yield Finding(
                CHECK,
                Code.KEY_FILE_MODE,
                f"The key file {path} has mode {_mode(path):04o}: with any but 0600 or 0400 no server starts.",
                f"chmod 600 {_quoted(path)}",
            )


def _secrets(configuration: Configuration) -> Iterator[Finding]:
    named = os.environ.get("STRONGROOM_CREDENTIAL_FILE")
    secrets = [configuration.folder / name for name in _SECRETS] + ([Path(named)] if named else [])
    for path in dict.fromkeys(path for path in secrets if path.is_file()):
        if _mode(path) & _OTHERS:
            yield _open_secret(path, "credential")
    tls = configuration.settings.server.tls
    key = None if tls is None else configuration.folder / tls.key
    if key is not None and key.is_file() and _mode(key) & _OTHERS_OR_GROUP_WRITES:
        yield _open_secret(key, "TLS key")


def _open_secret(path: Path, what: str) -> Finding:
    return Finding(
        CHECK,
        Code.SECRET_FILE_MODE,
        f"{path} holds a {what} and has mode {_mode(path):04o}: others can read it.",
        f"chmod 600 {_quoted(path)}",
    )


def _beside(configuration: Configuration) -> Iterator[Finding]:
    if configuration.has_database_server:
        return
    data = configuration.database_path.parent.resolve()
    for path in filter(Path.exists, key_files(configuration)):
        folder = path.resolve().parent
        if folder.is_relative_to(data) or data.is_relative_to(folder):
            yield Finding(
                CHECK,
                Code.KEY_BESIDE_DATA,
                f"The key file {path} lies in one folder with the database: whoever copies that has both. Part them: "
                "docs/providers/file.md#parting-key-and-data.",
                f"stop the server; mv {_quoted(path)} ANOTHER_VOLUME/; name the new path in [providers] path",
            )


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
