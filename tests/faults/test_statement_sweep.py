"""A fault at every single statement of every operation: the outcome is whole or absent, never between."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import peewee
import pytest

from tests.faults.small_vault import (
    ADA,
    BOB,
    CALLER,
    IS_GATE,
    PEOPLE_SCHEMA,
    TABLES,
    SmallVault,
    change,
    erase,
    people_key,
    record_row,
    say,
    store,
)
from tests.two_keyrings import Keys
from vault import bootstrap
from vault.bootstrap import Vault, founding
from vault.config import load_configuration
from vault.core.audit_ports import AuditCriteria
from vault.core.clock import MINUTE, system_clock
from vault.core.collections import Settings
from vault.core.errors import UnavailableError, VaultError
from vault.core.idempotency import RequestName
from vault.core.operations import (
    CreateOperation,
    EraseOperation,
    GetOperation,
    LookupOperation,
    UpdateOperation,
)
from vault.core.operations import Operation as OfBatch
from vault.core.ports import Page
from vault.core.provisioning import KeyringPlan, ProvisioningStores, create_keyring
from vault.core.reading import Lookup
from vault.core.record_drafts import NewDocument
from vault.core.releases import View
from vault.core.rows import RecordRow
from vault.rotation.job import Job, lease_end, standing_job
from vault.storage.sqlite import _Connection

MOVED: dict[str, Any] = {"email": "moved@example.org", "city": "Oslo"}
HEIR: dict[str, Any] = {"email": "ada@example.org", "note": "heir"}
DUNCE: dict[str, Any] = {"email": "dunce@example.org", "city": "Rome", "note": "n" * 9_000}
EXIT_CODE = 137
MOST_STEPS = 200


class Steps:
    """Counts what reaches the database; at step ``fail_at`` it does what ``fail`` says, before the statement runs."""

    def __init__(self, fail_at: int = 0, fail: Callable[[], None] = lambda: None) -> None:
        self.count = 0
        self.has_failed = False
        self._fail_at = fail_at
        self._fail = fail

    def step(self) -> None:
        self.count += 1
        if self.count == self._fail_at:
            self.has_failed = True
            self._fail()

    @contextmanager
    def watching(self) -> Iterator[Steps]:
        execute, begin, commit = _Connection.execute_sql, _Connection.begin, _Connection.commit

        def stepping_execute(database: Any, *arguments: Any, **options: Any) -> Any:
            self.step()
            return execute(database, *arguments, **options)

        def stepping_begin(database: Any, *arguments: Any, **options: Any) -> Any:
            self.step()
            return begin(database, *arguments, **options)

        def stepping_commit(database: Any) -> Any:
            self.step()
            done = commit(database)
            if self._fail is exit_now:
                # Killed between the commit and the answer.
                self.step()
            return done

        with mock.patch.multiple(
            _Connection,
            create=True,
            execute_sql=stepping_execute,
            begin=stepping_begin,
            commit=stepping_commit,
        ):
            yield self


def raise_now() -> None:
    raise peewee.OperationalError("disk I/O error")


def exit_now() -> None:
    os._exit(EXIT_CODE)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the vault.

    Attributes:
        run: does it and returns what it shows, if anything.
        is_done: whether the opened vault shows all of its effect; asserts that it shows it right.
        shows_data: it writes nothing but its entry.
        prepare: what comes before.
    """

    run: Callable[[Vault, SmallVault], Any]
    is_done: Callable[[Vault, SmallVault], bool]
    shows_data: bool = False
    prepare: Callable[[Vault], None] = lambda _vault: None


def read(vault: Vault, token: bytes, generation: int | None = None) -> Any:
    shown = vault.services.reading.read(
        CALLER, people_key(token), view=View(plain=True), generation=generation
    )
    return shown.data


def find(vault: Vault, email: str) -> list[Any]:
    lookup = Lookup("email", email, None, View(plain=True), Page(10))
    return [shown.data for shown in vault.services.reading.lookup(CALLER, "people", lookup)]


def collection_version(vault: Vault, name: str) -> int:
    row = vault.stores.collections.get("default", name)
    return 0 if row is None else row.schema_version


def created(vault: Vault, _made: SmallVault) -> bool:
    found = find(vault, DUNCE["email"])
    assert found in ([], [DUNCE])
    return bool(found)


def replaced(vault: Vault, made: SmallVault) -> bool:
    data = read(vault, made.bob)
    assert data in (BOB, DUNCE)
    assert find(vault, BOB["email"]) == ([BOB] if data == BOB else [])
    assert find(vault, DUNCE["email"]) == ([DUNCE] if data == DUNCE else [])
    return bool(data == DUNCE)


def erased(vault: Vault, made: SmallVault) -> bool:
    row = vault.stores.records.find(people_key(made.ada))
    assert row is not None
    assert find(vault, ADA["email"]) == ([] if row.erased_at else [ADA])
    return row.erased_at is not None


def define(vault: Vault, name: str, schema: dict[str, Any]) -> None:
    vault.services.collections.define(CALLER, name, schema, Settings())


def tally(vault: Vault, minute: int) -> None:
    from vault.core.audit_ports import RefusalTally

    refusal = RefusalTally(address="127.0.0.1", reason="missing", minute=minute, count=1)
    vault.stores.audit.tally_refusal(refusal, entry_for=vault.services.trail._tally_entry)


def refuse(vault: Vault, _made: SmallVault) -> None:
    tally(vault, system_clock() // MINUTE)


def refuse_earlier(vault: Vault) -> None:
    tally(vault, system_clock() // MINUTE - 5)


def keys_of(vault: Vault, made: SmallVault) -> Keys:
    return Keys(made.configuration, vault)


def version_states(vault: Vault) -> list[str]:
    return [row.state for row in vault.stores.keys.key_versions()]


def ask_for_rotation(vault: Vault) -> None:
    vault.services.key_requests.rotate(CALLER, "default")


def made_pending(vault: Vault, made: SmallVault) -> bool:
    # Whatever was cut off before: one row at most, and it is of the newest version that the provider made.
    states = version_states(vault)
    assert states in (["active"], ["active", "pending"])
    if states == ["active"]:
        return False
    (pending,) = vault.stores.rotations.pending_versions()
    assert pending.provider_version == keys_of(vault, made).in_provider()[-1]
    return True


def activated(vault: Vault, _made: SmallVault) -> bool:
    states = version_states(vault)
    assert states in (["active", "pending"], ["deactivated", "active"])
    (job,) = [row for row in vault.stores.jobs.jobs() if row.operation == "rotate"]
    assert job.state == ("done" if states[1] == "active" else "running")
    return states[1] == "active"


def prepare_pending(vault: Vault) -> None:
    # The engine knows the folder; the configuration of these vaults is all defaults.
    made = load_configuration(None, vault.engine.path.parent)
    ask_for_rotation(vault)
    Keys(made, vault).make()


def do_batch(vault: Vault, made: SmallVault, job: Job) -> None:
    """One batch of a job, whatever a try before has left of its lease."""
    with made.tampering() as connection:
        connection.execute("DELETE FROM job_lease")
    now = system_clock()
    turn = vault.stores.jobs.take(
        standing_job(job, now), owner=vault.services.trail.boot_id, now=now, until=lease_end(now)
    )
    assert turn is not None
    job.step(turn)


def add_keyring(vault: Vault) -> None:
    provider = vault.keyrings._providers["disk"]
    plan = KeyringPlan("hr", provider, "records", provider_version=1, algorithm="A256KWP")
    stores = ProvisioningStores(vault.stores.keys, vault.stores.audit)
    create_keyring(plan, stores, system_clock, vault.services.trail)


def requests_of(vault: Vault) -> list[str]:
    return [row.name for row in vault.stores.jobs.jobs() if row.operation == "rotate"]


def asked(vault: Vault, _made: SmallVault) -> bool:
    assert len(requests_of(vault)) <= 1
    return bool(requests_of(vault))


def records_path(name: str) -> RequestName:
    return RequestName("POST", f"/v1/collections/people/records{name}", "key-1")


def create_once(vault: Vault, _made: SmallVault) -> Any:
    services = vault.services
    with services.idempotency.claim(CALLER, records_path(""), [DUNCE]) as claim:
        return services.records.create_once(CALLER, "people", NewDocument(DUNCE), claim)


def receipts(made: SmallVault) -> int:
    with closing(sqlite3.connect(made.database)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM idempotency_key").fetchone()
    return int(count)


def created_once(vault: Vault, made: SmallVault) -> bool:
    is_done = created(vault, made)
    assert receipts(made) == is_done
    return is_done


def writes(made: SmallVault) -> list[OfBatch]:
    """A create, an update, an erase, and a create that takes what the erase gives up."""
    return [
        CreateOperation(NewDocument(DUNCE)),
        UpdateOperation(made.bob, NewDocument(MOVED), None),
        EraseOperation(made.ada, None),
        CreateOperation(NewDocument(HEIR)),
    ]


def batch(vault: Vault, operations: list[OfBatch], *, key: str | None = None, **options: Any) -> list[Any]:
    bulk, idempotency = vault.services.bulk, vault.services.idempotency
    if key is None:
        return bulk.run(CALLER, "people", operations, **options).items
    bodies = [str(place) for place, _ in enumerate(operations)]
    with idempotency.claim(CALLER, records_path("/bulk"), bodies) as claim:
        return bulk.run(CALLER, "people", operations, claim=claim, **options).items


def batched(vault: Vault, made: SmallVault) -> bool:
    done = [
        find(vault, DUNCE["email"]) == [DUNCE],
        find(vault, BOB["email"]) == [] and read(vault, made.bob) == find(vault, MOVED["email"])[0] == MOVED,
        record_row(vault, made.ada).erased_at is not None,
        find(vault, ADA["email"]) == [HEIR],
    ]
    assert done in ([True] * 4, [False] * 4), done
    return done[0]


def batched_once(vault: Vault, made: SmallVault) -> bool:
    is_done = batched(vault, made)
    assert receipts(made) == (6 if is_done else 0)
    return is_done


REFUSED = CreateOperation(NewDocument({"email": ADA["email"], "city": "Rome"}))
LOOKUP = LookupOperation(Lookup("email", DUNCE["email"], None, View(plain=True), Page(10)))


WIDER = PEOPLE_SCHEMA | {"properties": PEOPLE_SCHEMA["properties"] | {"age": {"type": "integer"}}}
never = lambda _vault, _made: False  # noqa: E731

OPERATIONS = {
    "create": Operation(lambda vault, _: store(vault, DUNCE), created),
    "replace": Operation(lambda vault, made: change(vault, made.bob, DUNCE), replaced),
    "erase": Operation(lambda vault, made: erase(vault, made.ada), erased),
    "create with a key": Operation(create_once, created_once),
    "batch": Operation(lambda vault, made: batch(vault, [REFUSED, *writes(made), LOOKUP]), batched),
    "atomic batch": Operation(lambda vault, made: batch(vault, writes(made), is_atomic=True), batched),
    "batch with a key": Operation(
        lambda vault, made: batch(vault, [REFUSED, *writes(made)], key="key-1"), batched_once
    ),
    "rehearse a batch": Operation(
        lambda vault, made: batch(vault, [REFUSED, *writes(made)], is_dry_run=True), never, shows_data=True
    ),
    "read in a batch": Operation(
        lambda vault, made: batch(
            vault, [GetOperation(made.ada, 1, View(plain=True)), LOOKUP, GetOperation(made.cyd, None, View())]
        ),
        never,
        shows_data=True,
    ),
    "define": Operation(
        lambda vault, _: define(vault, "pets", PEOPLE_SCHEMA),
        lambda vault, _: collection_version(vault, "pets") == 1,
    ),
    "redefine": Operation(
        lambda vault, _: define(vault, "people", WIDER),
        lambda vault, _: collection_version(vault, "people") == 2,
    ),
    "read": Operation(lambda vault, made: read(vault, made.ada), never, shows_data=True),
    "read older": Operation(lambda vault, made: read(vault, made.ada, 1), never, shows_data=True),
    "look up": Operation(lambda vault, _: find(vault, ADA["email"]), never, shows_data=True),
    "look up in vain": Operation(lambda vault, _: find(vault, "x@example.org"), never, shows_data=True),
    "list": Operation(
        lambda vault, _: vault.services.reading.list_page(CALLER, "people", page=Page(10)),
        never,
        shows_data=True,
    ),
    "search the log": Operation(
        lambda vault, _: vault.services.audit.search(
            CALLER, AuditCriteria("default"), person=None, page=Page(10)
        ),
        never,
        shows_data=True,
    ),
    "take the census": Operation(lambda vault, _: vault.services.census.take(CALLER), never, shows_data=True),
    "refuse": Operation(refuse, never, prepare=refuse_earlier),
    "add a keyring": Operation(
        lambda vault, _: add_keyring(vault),
        lambda vault, _: "hr" in [row.name for row in vault.stores.keys.keyrings()],
    ),
    "ask for a rotation": Operation(lambda vault, _: ask_for_rotation(vault), asked),
    "make a key version": Operation(
        lambda vault, made: do_batch(vault, made, keys_of(vault, made).maker()),
        made_pending,
        prepare=ask_for_rotation,
    ),
    "activate a key version": Operation(
        lambda vault, made: do_batch(vault, made, keys_of(vault, made).activator()),
        activated,
        prepare=prepare_pending,
    ),
    "replace the credential": Operation(
        lambda vault, _: vault.administrators.replace(),
        lambda vault, _: sum(1 for row in vault.stores.inspector.rows(credential_rows())) == 2,
    ),
}


def credential_rows() -> Any:
    from vault.core.rows import CredentialRow

    return CredentialRow


def dump(database: Path) -> dict[str, list[Any]]:
    with closing(sqlite3.connect(database)) as connection:
        return {
            table: connection.execute(f"SELECT * FROM {table} ORDER BY id").fetchall()  # noqa: S608  # our own names
            for table in (*TABLES, "refusal_tally", "idempotency_key")
        }


def fresh(template: SmallVault, folder: Path, operation: Operation) -> SmallVault:
    shutil.rmtree(folder, ignore_errors=True)
    made = template.copy_to(folder)
    with made.opened() as vault:
        operation.prepare(vault)
    return made


def check_after(made: SmallVault, operation: Operation, before: dict[str, list[Any]], context: str) -> bool:
    """Whole or absent; return whether it is whole."""
    after = dump(made.database)
    assert made.findings() == [], context
    with made.opened() as vault:
        is_done = operation.is_done(vault, made)
    if operation.is_done is not never and not is_done:
        assert after == before, context
    if operation.shows_data:
        changed = {table for table in after if after[table] != before[table]}
        assert changed <= {"audit_entry"}, context
    return is_done


def attempt(operation: Operation, vault: Vault, made: SmallVault) -> tuple[Any, UnavailableError | None]:
    try:
        return operation.run(vault, made), None
    except UnavailableError as error:
        return None, error


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_statement_fails(small_vault_template: SmallVault, tmp_path: Path, name: str) -> None:
    operation = OPERATIONS[name]
    for k in range(1, MOST_STEPS):
        made = fresh(small_vault_template, tmp_path / "data", operation)
        before = dump(made.database)
        with made.opened() as vault:
            with Steps(k, raise_now).watching() as steps:
                shown, error = attempt(operation, vault, made)
            if not steps.has_failed:
                assert error is None
                assert shown or not operation.shows_data or name == "look up in vain"
                break
            assert error is not None, f"{name} goes on in spite of a failure at step {k}"
            assert error.code == "store-unavailable"
            # Nothing is written, no entry either, and nothing was shown.
            assert dump(made.database) == before, f"{name} said no at step {k} and did it"
            # The same connection goes on: nothing of the failed attempt is left in it.
            operation.run(vault, made)
            assert operation.is_done is never or operation.is_done(vault, made)
            assert vault.verify(lambda: None).findings == []
    else:
        pytest.fail("the sweep has no end")
    assert k > 3
    say(f"{name}: {k - 1} steps")


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_process_ends_at_each_statement(
    small_vault_template: SmallVault, tmp_path: Path, name: str
) -> None:
    operation = OPERATIONS[name]
    outcomes = []
    for k in range(1, MOST_STEPS):
        made = fresh(small_vault_template, tmp_path / "data", operation)
        before = dump(made.database)
        code = in_child(lambda made=made, k=k: run_and_end(made, operation, k))  # type: ignore[misc]
        assert code in {0, EXIT_CODE}, f"{name} step {k}"
        outcomes.append(check_after(made, operation, before, f"{name} step {k}"))
        if code == 0:
            break
    else:
        pytest.fail("the sweep has no end")
    if operation.is_done is not never:
        # Absent up to one step, the commit, and whole from there on.
        assert outcomes == sorted(outcomes)
        assert outcomes[0] is False
        assert outcomes[-2:] == [True, True]


@pytest.mark.parametrize("name", ["create with a key", "batch with a key"])
def test_whoever_ended_at_a_statement_is_answered_when_it_asks_again(
    small_vault_template: SmallVault, tmp_path: Path, name: str
) -> None:
    """No answer came, and the same request is sent again: it is carried out once, whenever the end came."""
    operation = OPERATIONS[name]
    replays = []
    for k in range(1, MOST_STEPS, 1 if IS_GATE else 3):
        made = fresh(small_vault_template, tmp_path / "data", operation)
        code = in_child(lambda made=made, k=k: run_and_end(made, operation, k))  # type: ignore[misc]
        with made.opened() as vault:
            tokens = [row.token for row in vault.stores.inspector.rows(RecordRow)]
            operation.run(vault, made)
            after = [row.token for row in vault.stores.inspector.rows(RecordRow)]
            assert operation.is_done(vault, made)
            assert vault.verify(lambda: None).findings == []
        assert after[: len(tokens)] == tokens
        replays.append(after == tokens)
        assert len(after) == (4 if name.startswith("create") else 5)
        if code == 0:
            break
    else:
        pytest.fail("the sweep has no end")
    # Carried out anew up to one step, the commit, and answered from there on.
    assert replays == sorted(replays)
    assert (replays[0], replays[-1]) == (False, True)


def run_and_end(made: SmallVault, operation: Operation, k: int) -> None:
    vault = bootstrap.open_vault(made.configuration)
    with Steps(k, exit_now).watching():
        operation.run(vault, made)


def in_child(work: Callable[[], None]) -> int:
    """Run this in a forked child and return its exit code."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001  # a child of fork never returns into pytest
            os._exit(1)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def steps_of_init(folder: Path) -> int:
    with Steps().watching() as steps:
        bootstrap.create_vault(load_configuration(None, folder))
    return steps.count


def check_init_again(folder: Path, context: str) -> None:
    configuration = load_configuration(None, folder)
    if bootstrap.vault_exists(configuration):
        # Killed after the rename: the vault is whole, and its credential can be replaced.
        vault = bootstrap.open_vault(configuration)
        credential = vault.administrators.replace()
        vault.close()
    else:
        with pytest.raises(VaultError, match="There is no vault"):
            bootstrap.open_vault(configuration)
        credential = bootstrap.create_vault(configuration)
    vault = bootstrap.open_vault(configuration)
    try:
        assert vault.verify(lambda: None).findings == [], context
        vault.services.authentication.authenticate(credential.text)
        assert vault.services.collections.current("default", "users").version == 1
    finally:
        vault.close()
    # An empty lock file may stay; nothing that holds a byte.
    assert [path.name for path in folder.glob("*.new*") if path.stat().st_size] == [], context


def test_init_fails_or_is_killed_at_each_statement(tmp_path: Path) -> None:
    total = steps_of_init(tmp_path / "counted")
    assert total > 30
    for k in range(1, total + 1, 1 if IS_GATE else 4):
        failing = tmp_path / f"raise{k}"
        with Steps(k, raise_now).watching(), pytest.raises(VaultError):
            bootstrap.create_vault(load_configuration(None, failing))
        check_init_again(failing, f"init fails at step {k}")

        killed = tmp_path / f"exit{k}"
        code = in_child(lambda k=k, killed=killed: init_and_end(killed, k))  # type: ignore[misc]
        assert code == EXIT_CODE
        check_init_again(killed, f"init ends at step {k}")
        shutil.rmtree(failing)
        shutil.rmtree(killed)
    say(f"init: {total} steps")


def init_and_end(folder: Path, k: int) -> None:
    with Steps(k, exit_now).watching():
        bootstrap.create_vault(load_configuration(None, folder))


@pytest.mark.parametrize("place", ["_fill", "_sync_folder"])
def test_init_is_killed_between_its_files(tmp_path: Path, place: str) -> None:
    """After the key file and before the database; after the rename and before the folder is synced."""

    def end() -> None:
        with mock.patch.object(founding, place, side_effect=lambda *_: exit_now()):
            bootstrap.create_vault(load_configuration(None, tmp_path / "data"))

    assert in_child(end) == EXIT_CODE
    check_init_again(tmp_path / "data", place)


def test_init_is_killed_before_the_rename(tmp_path: Path) -> None:
    def end() -> None:
        with mock.patch.object(Path, "rename", side_effect=lambda *_: exit_now()):
            bootstrap.create_vault(load_configuration(None, tmp_path / "data"))

    folder = tmp_path / "data"
    assert in_child(end) == EXIT_CODE
    assert not bootstrap.vault_exists(load_configuration(None, folder))
    check_init_again(folder, "rename")
