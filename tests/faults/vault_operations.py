"""Every operation of the vault, and how to see that it is whole or absent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.faults.small_vault import (
    ADA,
    BOB,
    CALLER,
    PEOPLE_SCHEMA,
    SmallVault,
    change,
    erase,
    people_key,
    record_row,
    store,
)
from tests.two_keyrings import Keys
from vault.bootstrap import Vault
from vault.core.audit_ports import AuditCriteria, RefusalTally
from vault.core.clock import MINUTE, system_clock
from vault.core.collections import Settings
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
from vault.core.rows import CredentialRow
from vault.rotation.job import Job, lease_end, standing_job

MOVED: dict[str, Any] = {"email": "moved@example.org", "city": "Oslo"}
HEIR: dict[str, Any] = {"email": "ada@example.org", "note": "heir"}
DUNCE: dict[str, Any] = {"email": "dunce@example.org", "city": "Rome", "note": "n" * 9_000}


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the vault.

    Attributes:
        run: does it and returns what it shows, if anything.
        is_done: whether the opened vault shows all of its effect; asserts that it shows it right.
        shows_data: it writes nothing but its entry.
        prepare: what comes before.
        is_job: one batch of a job, which keeps its place in transactions without an audit entry.
    """

    run: Callable[[Vault, SmallVault], Any]
    is_done: Callable[[Vault, SmallVault], bool]
    shows_data: bool = False
    prepare: Callable[[Vault, SmallVault], None] = lambda _vault, _made: None
    is_job: bool = False


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
    refusal = RefusalTally(address="127.0.0.1", reason="missing", minute=minute, count=1)
    vault.stores.audit.tally_refusal(refusal, entry_for=vault.services.trail._tally_entry)


def refuse(vault: Vault, _made: SmallVault) -> None:
    tally(vault, system_clock() // MINUTE)


def refuse_earlier(vault: Vault, _made: SmallVault) -> None:
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


def prepare_pending(vault: Vault, made: SmallVault) -> None:
    ask_for_rotation(vault)
    keys_of(vault, made).make()


def do_batch(vault: Vault, made: SmallVault, job: Job) -> None:
    """One batch of a job, whatever a try before has left of its lease."""
    made.rows("DELETE FROM job_lease")
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
    ((count,),) = made.rows("SELECT count(*) FROM idempotency_key")
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
        prepare=lambda vault, _: ask_for_rotation(vault),
        is_job=True,
    ),
    "activate a key version": Operation(
        lambda vault, made: do_batch(vault, made, keys_of(vault, made).activator()),
        activated,
        prepare=prepare_pending,
        is_job=True,
    ),
    "replace the credential": Operation(
        lambda vault, _: vault.administrators.replace(),
        lambda vault, _: sum(1 for row in vault.stores.inspector.rows(credential_rows())) == 2,
    ),
}


def credential_rows() -> Any:
    return CredentialRow
