"""All checks in their order. What one finds decides whether the next can be made."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from vault.bootstrap.databases import database_address
from vault.cli.doctor import access_log, database, files, keys, leftovers, setting, surroundings, work
from vault.cli.doctor.findings import Code, Finding, Level, Patient, fine, not_checked
from vault.config import load_configuration
from vault.core.clock import system_clock
from vault.core.errors import MisconfiguredError, VaultError
from vault.storage.address import ServerAddress
from vault.storage.diagnosis import Diagnosis, look_at
from vault.storage.server_diagnosis import look_at_server

_OF_DATABASE = (database.SCHEMA, keys.CHECK, access_log.CHECK, work.PROCESSES, work.JOBS)
_ALL = (files.CHECK, surroundings.CLOCK, surroundings.DISK, database.CHECK, *_OF_DATABASE, leftovers.CHECK)


def examine(config: Path | None, data: Path | None) -> list[Finding]:
    """Make every check that can be made. Changes nothing, and needs no server."""
    try:
        configuration = load_configuration(config, data)
    except MisconfiguredError as error:
        because = "the configuration is not valid"
        return [setting.invalid(config, error), *(not_checked(check, because) for check in _ALL)]
    unreachable = files.unreachable(configuration)
    if unreachable is not None:
        because = "its files cannot be looked at"
        return [unreachable, *(not_checked(check, because) for check in (setting.CHECK, *_ALL[1:]))]
    patient = Patient(configuration, system_clock())
    found = [*setting.check(patient), *files.check(patient)]
    with ExitStack() as leaving:
        diagnosis, of_database = _look(patient, leaving)
        found += surroundings.check_clock(patient, diagnosis)
        found += surroundings.check_disk(patient)
        found += of_database
        found += _inside(patient, diagnosis)
    found += leftovers.check(patient)
    return found


def _look(patient: Patient, leaving: ExitStack) -> tuple[Diagnosis | None, list[Finding]]:
    """Open the database for looking, and check the file; None if nothing in it can be asked."""
    because = _why_closed(patient)
    if because is not None:
        return None, [not_checked(database.CHECK, because)]
    try:
        if patient.configuration.has_database_server:
            diagnosis = leaving.enter_context(look_at_server(_address(patient)))
            return diagnosis, [fine(database.CHECK, f"{patient.configuration.database_place} answers")]
        diagnosis = leaving.enter_context(look_at(patient.configuration.database_path))
        found = database.check(patient, diagnosis)
    except VaultError as error:
        return None, [database.unreadable(patient, error)]
    is_damaged = any(finding.code is Code.DATABASE_DAMAGED for finding in found)
    return None if is_damaged else diagnosis, found


def _address(patient: Patient) -> ServerAddress:
    address = database_address(patient.configuration)
    assert isinstance(address, ServerAddress)  # noqa: S101  # it was asked
    return address


def _why_closed(patient: Patient) -> str | None:
    if patient.configuration.has_database_server:
        return None
    if not patient.configuration.database_path.exists():
        return "there is no vault"
    if not files.is_ours(patient.configuration):
        return "the database belongs to another user"
    return None


def _inside(patient: Patient, diagnosis: Diagnosis | None) -> list[Finding]:
    """The checks that ask the database."""
    if diagnosis is None:
        because = _why_closed(patient) or "the database cannot be read"
        return [not_checked(check, because) for check in _OF_DATABASE]
    schema = database.check_schema(patient, diagnosis)
    providers = keys.check_providers(patient)
    if any(finding.level is Level.ERROR for finding in schema):
        closed = "the schema is not this release's"
        return [
            *schema,
            *(providers or [not_checked(keys.CHECK, closed)]),
            *(not_checked(check, closed) for check in _OF_DATABASE[2:]),
        ]
    asked: list[Callable[[], list[Finding]]] = [
        lambda: access_log.check(diagnosis),
        lambda: work.check_processes(patient, diagnosis),
        lambda: work.check_jobs(patient, diagnosis),
    ]
    found = [*schema, *(providers or keys.check(patient))]
    for ask in asked:
        try:
            found += ask()
        except VaultError as error:
            found.append(database.unreadable(patient, error))
    return found
