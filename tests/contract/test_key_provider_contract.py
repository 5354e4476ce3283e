"""One suite that every key provider passes. A new backend is one more row in BACKENDS."""

from __future__ import annotations

import base64
import hmac
import itertools
import json
import logging
import os
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import pytest

from keyproviders import memory
from keyproviders.errors import (
    KeyNotFoundError,
    KeyProviderError,
    KeyVersionRetiredError,
    ProviderMisconfiguredError,
    ProviderUnavailableError,
    WrappedKeyRejectedError,
)
from keyproviders.interface import (
    DATA_KEY_BYTES,
    DataKey,
    HealthStatus,
    ItemResult,
    KeyAdministration,
    KeyProvider,
    ProviderSettings,
    SecretBytes,
    UnwrapItem,
    VersionState,
    WrapItem,
    WrappedKey,
)
from keyproviders.registry import open_administration, open_provider
from keyproviders.transit_policies import PolicyKind, policy
from tests.forked_child import run_in_child
from tests.servers.openbao import TransitBench
from tests.servers.softhsm import HsmBench

pytestmark = pytest.mark.filterwarnings("ignore::keyproviders.memory.InsecureProviderWarning")

T = TypeVar("T")
CONTEXT = b"tenant|collection|token"


def _keks_of_file(settings: ProviderSettings, key: str) -> list[bytes]:
    content = json.loads((settings.folder / "keys.json").read_text())
    return [base64.b64decode(version["material"]) for version in content["keys"][key]["versions"]]


def _keks_of_memory(settings: ProviderSettings, key: str) -> list[bytes]:
    versions = memory._key_sets[settings.name].keys[key].versions
    return [version.material.reveal() for version in versions.values()]


@dataclass(frozen=True)
class Backend:
    """One row: how to open it, and what it cannot do alike.

    ``readable_keks``: the KEKs, where the test can get at them at all; elsewhere None.
    ``wraps_lengths``: the lengths of key material besides 32 bytes that it wraps.
    ``prepare``: makes what a test needs on the backend's server, and returns the options of both doors.
    ``retires_newest``: a key may be left without a version that works.
    ``destroys_in_any_order``: a version may be destroyed while an older one is there.
    ``rotates_without_gaps``: two administrators at once leave out no number.
    """

    type_name: str
    options: dict[str, object]
    binds_context: bool
    readable_keks: Callable[[ProviderSettings, str], list[bytes]] | None
    wraps_lengths: tuple[int, ...] = (16, 17, 24, 31, 33, 63, 64)
    prepare: Callable[[pytest.FixtureRequest], tuple[dict[str, object], dict[str, object]]] | None = None
    retires_newest: bool = True
    destroys_in_any_order: bool = True
    rotates_without_gaps: bool = True


def _transit(request: pytest.FixtureRequest) -> tuple[dict[str, object], dict[str, object]]:
    bench: TransitBench = request.getfixturevalue("transit")
    # The shipped policies, for every key instead of one: some of these tests use several.
    runtime, admin = (
        bench.role_with(policy(kind, bench.mount, "KEY").replace("/KEY", "/+"))
        for kind in (PolicyKind.RUNTIME, PolicyKind.ADMINISTRATION)
    )
    return dict(bench.settings(runtime).options), {"auth": admin}


def _pkcs11(algorithm: str) -> Callable[[pytest.FixtureRequest], tuple[dict[str, object], dict[str, object]]]:
    def prepare(request: pytest.FixtureRequest) -> tuple[dict[str, object], dict[str, object]]:
        bench: HsmBench = request.getfixturevalue("hsm_bench")
        pin = {"file": str(bench.hsm.pin)}
        return dict(bench.settings(pin=pin).options), {"algorithm": algorithm}

    return prepare


BACKENDS = [
    Backend("file", {"path": "keys.json"}, binds_context=False, readable_keks=_keks_of_file),
    Backend("memory", {}, binds_context=False, readable_keks=_keks_of_memory),
    Backend(
        "transit",
        {},
        binds_context=False,
        readable_keks=None,
        prepare=_transit,
        retires_newest=False,
        destroys_in_any_order=False,
        rotates_without_gaps=False,
    ),
    Backend("pkcs11", {}, binds_context=True, readable_keks=None, prepare=_pkcs11("auto")),
    Backend(
        "pkcs11",
        {},
        binds_context=False,
        readable_keks=None,
        prepare=_pkcs11("A256KWP"),
    ),
]


@dataclass
class Doors:
    """Both doors of one backend with a fresh key, and more of them on request."""

    backend: Backend
    settings: ProviderSettings
    key: str
    opened: list[KeyProvider | KeyAdministration] = field(default_factory=list)

    def administration(self) -> KeyAdministration:
        door = open_administration(self.backend.type_name, self.settings)
        self.opened.append(door)
        return door

    def provider(self) -> KeyProvider:
        door = open_provider(self.backend.type_name, replace(self.settings, admin={}))
        self.opened.append(door)
        return door


_numbers = itertools.count(1)


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.type_name)
def doors(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Doors]:
    number = next(_numbers)
    backend: Backend = request.param
    options, admin = (backend.options, {}) if backend.prepare is None else backend.prepare(request)
    settings = ProviderSettings(f"contract{number}", options, tmp_path, admin)
    made = Doors(backend, settings, f"key{number}")
    yield made
    for door in made.opened:
        door.close()


@pytest.fixture
def administration(doors: Doors) -> KeyAdministration:
    door = doors.administration()
    assert door.create(doors.key) == 1
    return door


@pytest.fixture
def provider(doors: Doors, administration: KeyAdministration) -> KeyProvider:
    assert administration is not None
    return doors.provider()


def good(result: ItemResult[T]) -> T:
    assert not isinstance(result, KeyProviderError), result
    return result


def data_key(provider: KeyProvider, key: str, version: int = 1) -> DataKey:
    (result,) = provider.generate(key, version, [CONTEXT])
    return good(result)


def item(wrapped: WrappedKey) -> UnwrapItem:
    return UnwrapItem(wrapped, CONTEXT)


def opens_to(provider: KeyProvider, wrapped: WrappedKey, expected: SecretBytes) -> bool:
    (result,) = provider.unwrap([item(wrapped)])
    return hmac.compare_digest(good(result).reveal(), expected.reveal())


def error_of(results: list[ItemResult[T]]) -> KeyProviderError:
    (result,) = results
    assert isinstance(result, KeyProviderError)
    return result


def rotate_to(administration: KeyAdministration, key: str, version: int) -> None:
    while administration.rotate(key) < version:
        pass


# --- the round trip


@pytest.mark.parametrize("version", [1, 2, 10])
def test_generated_keys_are_fresh_and_open_again(
    doors: Doors, provider: KeyProvider, administration: KeyAdministration, version: int
) -> None:
    if version > 1:
        rotate_to(administration, doors.key, version)
    made = [good(result) for result in provider.generate(doors.key, version, [CONTEXT] * 5)]
    assert len({each.plaintext.reveal() for each in made}) == 5
    assert len({each.wrapped.blob for each in made}) == 5
    for each in made:
        assert len(each.plaintext) == DATA_KEY_BYTES
        assert (each.wrapped.key, each.wrapped.version) == (doors.key, version)
        assert each.plaintext.reveal() not in each.wrapped.blob
        assert opens_to(provider, each.wrapped, each.plaintext)


def test_every_version_opens_what_it_wrapped_and_nothing_else(
    doors: Doors, provider: KeyProvider, administration: KeyAdministration
) -> None:
    rotate_to(administration, doors.key, 10)
    made = {version: data_key(provider, doors.key, version) for version in (1, 2, 9, 10)}
    for version, each in made.items():
        assert opens_to(provider, each.wrapped, each.plaintext)
        for other in set(made) - {version}:
            moved = replace(each.wrapped, version=other)
            assert type(error_of(provider.unwrap([item(moved)]))) is WrappedKeyRejectedError


def test_wrap_takes_every_promised_length(doors: Doors, provider: KeyProvider) -> None:
    plaintexts = [
        SecretBytes(os.urandom(length)) for length in (DATA_KEY_BYTES, *doors.backend.wraps_lengths)
    ]
    wrapped = provider.wrap(doors.key, 1, [WrapItem(each, CONTEXT) for each in plaintexts])
    assert len(wrapped) == len(plaintexts)
    for plaintext, result in zip(plaintexts, wrapped, strict=True):
        assert opens_to(provider, good(result), plaintext)


@pytest.mark.parametrize("length", [0, 1, 15, 65])
def test_wrap_refuses_every_other_length(doors: Doors, provider: KeyProvider, length: int) -> None:
    items = [WrapItem(SecretBytes(os.urandom(each)), CONTEXT) for each in (32, length)]
    with pytest.raises(ValueError, match=f"16 to 64 bytes, not {length}"):
        provider.wrap(doors.key, 1, items)


def test_results_come_in_the_order_of_the_items(doors: Doors, provider: KeyProvider) -> None:
    plaintexts = [SecretBytes(os.urandom(32)) for _ in range(300)]
    wrapped = [
        good(each) for each in provider.wrap(doors.key, 1, [WrapItem(each, CONTEXT) for each in plaintexts])
    ]
    opened = [good(each).reveal() for each in provider.unwrap([item(each) for each in reversed(wrapped)])]
    assert opened == [each.reveal() for each in reversed(plaintexts)]


def test_an_empty_batch_is_an_empty_answer(doors: Doors, provider: KeyProvider) -> None:
    assert provider.generate(doors.key, 1, []) == []
    assert provider.wrap(doors.key, 1, []) == []
    assert provider.unwrap([]) == []
    assert provider.rewrap([], 1) == []


def test_capabilities_are_as_the_row_says(doors: Doors, provider: KeyProvider) -> None:
    capabilities = provider.capabilities()
    assert capabilities.binds_context is doors.backend.binds_context
    assert capabilities.max_batch >= 1
    assert provider.name == doors.settings.name


def test_another_context_is_refused_exactly_where_contexts_are_bound(
    doors: Doors, provider: KeyProvider
) -> None:
    made = data_key(provider, doors.key)
    (result,) = provider.unwrap([UnwrapItem(made.wrapped, b"another context")])
    assert isinstance(result, WrappedKeyRejectedError) is doors.backend.binds_context


# --- wrong bytes


def test_every_flipped_byte_is_rejected(doors: Doors, provider: KeyProvider) -> None:
    made = data_key(provider, doors.key).wrapped
    changed = []
    for position in range(len(made.blob)):
        blob = bytearray(made.blob)
        blob[position] ^= 1 << (position % 8)
        changed.append(item(replace(made, blob=bytes(blob))))
    results = provider.unwrap(changed)
    assert [type(result) for result in results] == [WrappedKeyRejectedError] * len(made.blob)
    assert len(made.blob) >= DATA_KEY_BYTES


def test_every_truncated_or_extended_blob_is_rejected(doors: Doors, provider: KeyProvider) -> None:
    made = data_key(provider, doors.key).wrapped
    blobs = [made.blob[:length] for length in range(len(made.blob))]
    blobs += [made.blob + bytes(extra) for extra in (1, 7, 8, 16, 4096)]
    blobs += [bytes(8) + made.blob, made.blob * 2]
    results = provider.unwrap([item(replace(made, blob=blob)) for blob in blobs])
    assert [type(result) for result in results] == [WrappedKeyRejectedError] * len(blobs)


@pytest.mark.parametrize("algorithm", ["", "a256kwp", "none", "A256GCM"])
def test_another_algorithm_is_rejected(doors: Doors, provider: KeyProvider, algorithm: str) -> None:
    made = data_key(provider, doors.key).wrapped
    algorithm = "A256KWP" if algorithm == made.algorithm else algorithm
    error = error_of(provider.unwrap([item(replace(made, algorithm=algorithm))]))
    assert type(error) is WrappedKeyRejectedError


def test_a_blob_of_another_key_is_rejected(
    doors: Doors, provider: KeyProvider, administration: KeyAdministration
) -> None:
    other = f"{doors.key}other"
    administration.create(other)
    made = data_key(provider, doors.key).wrapped
    error = error_of(provider.unwrap([item(replace(made, key=other))]))
    assert type(error) is WrappedKeyRejectedError


@pytest.mark.parametrize("position", [0, 3, 6])
def test_one_bad_item_spoils_only_itself(doors: Doors, provider: KeyProvider, position: int) -> None:
    made = [good(each) for each in provider.generate(doors.key, 1, [CONTEXT] * 7)]
    items = [item(each.wrapped) for each in made]
    broken = bytes([items[position].wrapped.blob[0] ^ 1]) + items[position].wrapped.blob[1:]
    items[position] = item(replace(items[position].wrapped, blob=broken))
    for results in (provider.unwrap(items), provider.rewrap(items, 1)):
        assert len(results) == 7
        assert [index for index, each in enumerate(results) if isinstance(each, KeyProviderError)] == [
            position
        ]
        assert type(results[position]) is WrappedKeyRejectedError
    for index, result in enumerate(provider.unwrap(items)):
        if index != position:
            assert good(result).reveal() == made[index].plaintext.reveal()


# --- unknown, retired, destroyed


def test_an_unknown_key_is_not_found(doors: Doors, provider: KeyProvider) -> None:
    made = data_key(provider, doors.key).wrapped
    with pytest.raises(KeyNotFoundError):
        provider.generate("ghost", 1, [CONTEXT])
    with pytest.raises(KeyNotFoundError):
        provider.wrap("ghost", 1, [WrapItem(SecretBytes(bytes(32)), CONTEXT)])
    with pytest.raises(KeyNotFoundError):
        provider.key_info("ghost")
    ghost = item(replace(made, key="ghost"))
    assert type(error_of(provider.unwrap([ghost]))) is KeyNotFoundError
    assert type(error_of(provider.rewrap([ghost], 1))) is KeyNotFoundError


@pytest.mark.parametrize("version", [-1, 0, 2, 10, 2**63])
def test_an_unknown_version_is_not_found(doors: Doors, provider: KeyProvider, version: int) -> None:
    made = data_key(provider, doors.key).wrapped
    with pytest.raises(KeyNotFoundError):
        provider.generate(doors.key, version, [CONTEXT])
    with pytest.raises(KeyNotFoundError):
        provider.wrap(doors.key, version, [WrapItem(SecretBytes(bytes(32)), CONTEXT)])
    assert type(error_of(provider.unwrap([item(replace(made, version=version))]))) is KeyNotFoundError
    assert type(error_of(provider.rewrap([item(made)], version))) is KeyNotFoundError


def test_retire_refuses_every_version_up_to_the_named_one(
    doors: Doors, provider: KeyProvider, administration: KeyAdministration
) -> None:
    rotate_to(administration, doors.key, 11)
    made = {version: data_key(provider, doors.key, version) for version in (1, 2, 9, 10, 11)}
    administration.retire(doors.key, 10)
    for version in (1, 2, 9, 10):
        with pytest.raises(KeyVersionRetiredError):
            provider.generate(doors.key, version, [CONTEXT])
        with pytest.raises(KeyVersionRetiredError):
            provider.wrap(doors.key, version, [])
        old = item(made[version].wrapped)
        assert type(error_of(provider.unwrap([old]))) is KeyVersionRetiredError
        assert type(error_of(provider.rewrap([old], 11))) is KeyVersionRetiredError
        assert type(error_of(provider.rewrap([item(made[11].wrapped)], version))) is KeyVersionRetiredError
    assert opens_to(provider, made[11].wrapped, made[11].plaintext)
    states = {each.version: each.state for each in provider.key_info(doors.key).versions}
    assert list(states) == list(range(1, 12))
    assert [version for version, state in states.items() if state is VersionState.ENABLED] == [11]


def test_retire_stays_when_a_lower_version_is_retired_again(
    doors: Doors, provider: KeyProvider, administration: KeyAdministration
) -> None:
    rotate_to(administration, doors.key, 3)
    administration.retire(doors.key, 2)
    administration.retire(doors.key, 1)
    with pytest.raises(KeyVersionRetiredError):
        provider.generate(doors.key, 2, [CONTEXT])


def test_destroy_needs_retirement_and_never_frees_a_number(
    doors: Doors, provider: KeyProvider, administration: KeyAdministration
) -> None:
    administration.rotate(doors.key)
    made = {version: data_key(provider, doors.key, version) for version in (1, 2)}
    with pytest.raises(ProviderMisconfiguredError, match="not retired"):
        administration.destroy(doors.key, 2)
    assert opens_to(provider, made[2].wrapped, made[2].plaintext)
    newest = 2
    if not doors.backend.retires_newest:
        with pytest.raises(ProviderMisconfiguredError, match="rotate first"):
            administration.retire(doors.key, 2)
        newest = administration.rotate(doors.key)
    administration.retire(doors.key, 2)
    if not doors.backend.destroys_in_any_order:
        with pytest.raises(ProviderMisconfiguredError, match="destroy version 1 before"):
            administration.destroy(doors.key, 2)
        administration.destroy(doors.key, 1)
    administration.destroy(doors.key, 2)
    if doors.backend.destroys_in_any_order:
        administration.destroy(doors.key, 1)
    assert [each.version for each in provider.key_info(doors.key).versions] == list(range(3, newest + 1))
    for version in (1, 2):
        assert type(error_of(provider.unwrap([item(made[version].wrapped)]))) is KeyNotFoundError
        with pytest.raises(KeyNotFoundError):
            administration.destroy(doors.key, version)
    with pytest.raises(ProviderMisconfiguredError, match="exists already"):
        administration.create(doors.key)
    assert administration.rotate(doors.key) == newest + 1
    moved = replace(made[2].wrapped, version=newest + 1)
    assert type(error_of(provider.unwrap([item(moved)]))) is WrappedKeyRejectedError


def test_administration_of_what_is_not_there(doors: Doors, administration: KeyAdministration) -> None:
    with pytest.raises(ProviderMisconfiguredError, match="exists already"):
        administration.create(doors.key)
    for call in (
        lambda: administration.rotate("ghost"),
        lambda: administration.retire("ghost", 1),
        lambda: administration.retire(doors.key, 2),
        lambda: administration.retire(doors.key, 0),
        lambda: administration.destroy("ghost", 1),
        lambda: administration.destroy(doors.key, 2),
    ):
        with pytest.raises(KeyNotFoundError):
            call()


@pytest.mark.parametrize("name", ["", " ", "a/b", "../a", "a\n", "ä", ".hidden", "a" * 65])
def test_a_key_needs_a_plain_name(doors: Doors, administration: KeyAdministration, name: str) -> None:
    assert doors.key
    with pytest.raises(ProviderMisconfiguredError, match="no name for a key"):
        administration.create(name)


# --- rewrap, health, close


def test_rewrap_keeps_the_data_key(
    doors: Doors, provider: KeyProvider, administration: KeyAdministration
) -> None:
    rotate_to(administration, doors.key, 10)
    made = [data_key(provider, doors.key, version) for version in (1, 2, 9, 10)]
    rewrapped = [good(each) for each in provider.rewrap([item(each.wrapped) for each in made], 10)]
    assert {each.version for each in rewrapped} == {10}
    administration.retire(doors.key, 9)
    for each, wrapped in zip(made, rewrapped, strict=True):
        assert opens_to(provider, wrapped, each.plaintext)


def test_health_is_what_the_canary_says(
    doors: Doors, provider: KeyProvider, administration: KeyAdministration
) -> None:
    canary = data_key(provider, doors.key).wrapped
    broken = replace(canary, blob=canary.blob[:-1] + bytes([canary.blob[-1] ^ 1]))
    assert provider.health(item(canary)).status is HealthStatus.OK
    assert provider.health(item(broken)).status is HealthStatus.CANARY_REJECTED
    assert provider.health(item(replace(canary, key="ghost"))).status is HealthStatus.KEY_MISSING
    administration.rotate(doors.key)
    administration.retire(doors.key, 1)
    retired = provider.health(item(canary))
    assert retired.status is HealthStatus.KEY_MISSING
    assert "retired" in retired.detail
    provider.close()
    assert provider.health(item(canary)).status is HealthStatus.DOWN


def test_a_closed_door_says_try_later_and_closes_twice(
    doors: Doors, provider: KeyProvider, administration: KeyAdministration
) -> None:
    made = data_key(provider, doors.key)
    provider.close()
    provider.close()
    for call in (
        lambda: provider.generate(doors.key, 1, [CONTEXT]),
        lambda: provider.wrap(doors.key, 1, []),
        lambda: provider.unwrap([item(made.wrapped)]),
        lambda: provider.rewrap([item(made.wrapped)], 1),
        lambda: provider.key_info(doors.key),
    ):
        with pytest.raises(ProviderUnavailableError, match="closed"):
            call()
    administration.close()
    with pytest.raises(ProviderUnavailableError, match="closed"):
        administration.rotate(doors.key)
    assert opens_to(doors.provider(), made.wrapped, made.plaintext)


def test_closing_one_door_leaves_the_others_open(doors: Doors, provider: KeyProvider) -> None:
    other = doors.provider()
    made = data_key(provider, doors.key)
    provider.close()
    assert opens_to(other, made.wrapped, made.plaintext)


# --- who may do what


def test_no_run_time_call_creates_a_key(
    doors: Doors, provider: KeyProvider, administration: KeyAdministration
) -> None:
    before = provider.key_info(doors.key)
    made = data_key(provider, doors.key).wrapped
    ghost = replace(made, key="ghost", version=1)
    for call in (
        lambda: provider.generate("ghost", 1, [CONTEXT]),
        lambda: provider.wrap("ghost", 1, [WrapItem(SecretBytes(bytes(32)), CONTEXT)]),
        lambda: provider.generate(doors.key, 2, [CONTEXT]),
        lambda: provider.key_info("ghost"),
    ):
        with pytest.raises(KeyNotFoundError):
            call()
    provider.unwrap([item(ghost)])
    provider.rewrap([item(ghost), item(made)], 2)
    provider.health(item(ghost))
    assert provider.key_info(doors.key) == before
    assert administration.create("ghost") == 1
    assert administration.rotate(doors.key) == 2


def test_the_run_time_door_has_no_administration(
    provider: KeyProvider, administration: KeyAdministration
) -> None:
    for verb in ("create", "rotate", "retire", "destroy"):
        assert callable(getattr(administration, verb))
        assert not hasattr(provider, verb)


# --- at the same time


def test_rotation_while_four_threads_read(
    doors: Doors, provider: KeyProvider, administration: KeyAdministration
) -> None:
    made = [good(each) for each in provider.generate(doors.key, 1, [CONTEXT] * 20)]
    expected = [each.plaintext.reveal() for each in made]
    rotated = threading.Event()
    rounds = [0, 0, 0, 0]

    def read(reader: int) -> None:
        while not (rotated.is_set() and rounds[reader]):
            opened = provider.unwrap([item(each.wrapped) for each in made])
            assert [good(each).reveal() for each in opened] == expected
            newest = provider.key_info(doors.key).versions[-1].version
            fresh = data_key(provider, doors.key, newest)
            assert opens_to(provider, fresh.wrapped, fresh.plaintext)
            rounds[reader] += 1

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read, reader) for reader in range(4)]
        try:
            rotate_to(administration, doors.key, 12)
        finally:
            rotated.set()
        for reader in readers:
            reader.result()
    assert min(rounds) >= 1
    assert [each.version for each in provider.key_info(doors.key).versions] == list(range(1, 13))


def test_two_administrators_never_share_a_version(doors: Doors, administration: KeyAdministration) -> None:
    others = [administration, doors.administration(), doors.administration()]
    start = threading.Barrier(len(others))

    def rotate(door: KeyAdministration) -> list[int]:
        start.wait()
        return [door.rotate(doors.key) for _ in range(8)]

    with ThreadPoolExecutor(len(others)) as pool:
        versions = [version for made in pool.map(rotate, others) for version in made]
    assert len(set(versions)) == 24
    assert min(versions) >= 2
    if doors.backend.rotates_without_gaps:
        assert max(versions) == 25


def test_a_forked_child_goes_on(doors: Doors, provider: KeyProvider) -> None:
    made = data_key(provider, doors.key)

    def work() -> None:
        fresh = data_key(provider, doors.key)
        assert opens_to(provider, made.wrapped, made.plaintext)
        assert opens_to(provider, fresh.wrapped, fresh.plaintext)

    assert run_in_child(work) == 0
    assert opens_to(provider, made.wrapped, made.plaintext)


# --- nothing secret shows


def test_no_key_material_shows(
    doors: Doors, provider: KeyProvider, administration: KeyAdministration, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    administration.rotate(doors.key)
    made = data_key(provider, doors.key)
    bad = replace(made.wrapped, blob=made.wrapped.blob[:-1] + bytes([made.wrapped.blob[-1] ^ 1]))
    items = [
        item(made.wrapped),
        item(bad),
        item(replace(bad, key="ghost")),
        item(replace(bad, algorithm="x")),
    ]
    shown: list[object] = [doors.settings, provider, administration, made, provider.capabilities()]
    shown += [*provider.unwrap(items), *provider.rewrap(items, 2), *provider.rewrap(items, 7)]
    shown += [provider.key_info(doors.key), *map(provider.health, items)]
    secrets = [made.plaintext.reveal()]
    if doors.backend.readable_keks is not None:
        secrets += doors.backend.readable_keks(doors.settings, doors.key)
        assert len(secrets) == 3
    texts = [*map(repr, shown), *map(str, shown)]
    for call in (
        lambda: provider.generate(doors.key, 9, [CONTEXT]),
        lambda: provider.wrap(doors.key, 1, [WrapItem(SecretBytes(made.plaintext.reveal() * 3), CONTEXT)]),
        lambda: administration.create(doors.key),
        lambda: administration.destroy(doors.key, 1),
    ):
        with pytest.raises((KeyProviderError, ValueError)) as caught:
            call()
        trace = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
        # Frames of this test hold the secrets in their own locals; those of the product must not.
        texts += [str(frame.locals) for frame in trace.stack if "keyproviders" in Path(frame.filename).parts]
        texts += [str(caught.value), repr(caught.value)]
    for result in shown:
        if isinstance(result, KeyProviderError):
            assert result.__traceback__ is None
            assert result.__cause__ is None
            assert result.__context__ is None
    haystack = "\n".join([*texts, caplog.text])
    assert doors.key in haystack
    for secret in secrets:
        for form in forms_of(secret):
            assert form not in haystack


def forms_of(secret: bytes) -> list[str]:
    encoded = [base64.b64encode(secret), base64.urlsafe_b64encode(secret)]
    return [
        secret.hex(),
        secret.hex().upper(),
        secret.decode("latin-1"),
        repr(secret)[2:-1],
        str(list(secret))[1:-1],
        *(each.decode().rstrip("=") for each in encoded),
    ]
