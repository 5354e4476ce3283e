from __future__ import annotations

import base64
import errno
import functools
import hashlib
import json
import os
import stat
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from keyproviders import key_file_passphrase
from keyproviders.errors import (
    KeyProviderError,
    ProviderCredentialError,
    ProviderMisconfiguredError,
    ProviderUnavailableError,
)
from keyproviders.interface import DataKey, HealthStatus, ProviderSettings, SecretBytes, UnwrapItem
from keyproviders.key_file_format import KeyFileContent, KeyFileLabel, decode, encode
from keyproviders.key_file_passphrase import Argon2Parameters, Passphrase
from keyproviders.local_file import LocalFileAdministration, LocalFileProviderType
from keyproviders.software import SoftwareKeyProvider

ROOT = Path(__file__).parents[3]
PASSPHRASE = b"correct horse battery staple"
OTHER = b"another one that is long enough"
LABEL = KeyFileLabel("disk", Path("/keys.json"))

# Frozen: files of this format must open in every later release. Define strongroom-key-file/3 instead.
GOLDEN = b"""{
  "format": "strongroom-key-file/2",
  "file_id": "000102030405060708090a0b0c0d0e0f",
  "passphrase": {
    "kdf": "argon2id",
    "memory_kib": 65536,
    "iterations": 3,
    "lanes": 4,
    "salt": "101112131415161718191a1b1c1d1e1f"
  },
  "sealed": "ICEiIyQlJicoKSorPOgy1fJ3PscQe9wBUIlGyKlm/0UXcmOnnL3AFOTn2HHwoYiUVRcQ8uErBY6x/EDJTTSbaxeFWhZl8OWOWIRnW74QhYw9TPGPOqK0OMYRSv0fEM9GaYyhUzuCK7gVwyKeOeiAzvL7NRoDn3e87WY1cPVrIUFZPJ7GFXZygiIr77CJJYin9DHXp26hDdMOoCuemc0QmjtCBJM2BOGmX8kB/n1iv/9wgjRPjKfS2gB3Y+e1phZvNFngyXOruF/5nhwNUsPSBZszwZFa6xRrartungd71Wd32R5B3h6kplWKbMb9JfCdeukSDru4sDjaSeStbBnLYZm6wKJbWqQeysh9iDtHEt3KDxfYooNL6bYf9XLHHyv1Tf3wt7rDqT/nHnAANut8+zclecclvaQIdw5LfvJhhnDCpccAWXxsYk63m9NKPBmGsksDVkoNdISui8LhnppV9PaBLDz1t1zrhCrVBaE+p/lO7g==",
  "checksum": "c08a115deb8af7eb78a5a7a3c18dea5a1d0f5e731611d5e6c8aab68e9b38fb5b"
}
"""


def canonical(body: object) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def resealed(document: dict[str, Any]) -> bytes:
    """Give a hand-made document the checksum of its page."""
    body = {name: value for name, value in document.items() if name != "checksum"}
    return json.dumps({**body, "checksum": hashlib.sha256(canonical(body)).hexdigest()}).encode()


def lock(passphrase: bytes = PASSPHRASE) -> Passphrase:
    return Passphrase(lambda: SecretBytes(passphrase), provider="disk")


# --- the format


def test_the_golden_file_opens() -> None:
    content = decode(GOLDEN, LABEL, lock())
    key = content.key_set.keys["records"]
    assert (key.highest_version, list(key.versions)) == (3, [1, 3])
    assert key.versions[1].material.reveal() == bytes(range(32))
    assert key.versions[3].material.reveal() == b"\xff" * 32


def test_the_bytes_of_the_golden_file_are_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    content = decode(GOLDEN, LABEL, lock())
    random = iter([bytes(range(16, 32)), bytes(range(32, 44))])
    monkeypatch.setattr(os, "urandom", lambda _: next(random))
    assert encode(content, lock()) == GOLDEN


def test_the_page_is_enough_to_open_the_golden_file() -> None:
    page = (ROOT / "docs" / "formats" / "key-file.md").read_text()
    assert GOLDEN.decode() in page
    document = json.loads(GOLDEN)
    parameters, sealed = document["passphrase"], base64.b64decode(document["sealed"])
    key = Argon2id(
        salt=bytes.fromhex(parameters["salt"]),
        length=32,
        iterations=parameters["iterations"],
        lanes=parameters["lanes"],
        memory_cost=parameters["memory_kib"],
    ).derive(PASSPHRASE)
    header = {name: document[name] for name in ("format", "file_id", "passphrase")}
    keys = json.loads(AESGCM(key).decrypt(sealed[:12], sealed[12:], canonical(header)))
    assert keys["records"]["versions"][0]["material"] == base64.b64encode(bytes(range(32))).decode()
    assert resealed(document) == json.dumps(document).encode()


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that are sealed in the test are sealed in a millisecond."""
    defaults = Passphrase.__init__.__kwdefaults__
    assert defaults["make"] is Argon2Parameters
    monkeypatch.setitem(defaults, "make", lambda salt: Argon2Parameters(salt, 64, 1, 1))


@functools.cache
def golden_content() -> KeyFileContent:
    return decode(GOLDEN, LABEL, lock())


def quick_document() -> dict[str, Any]:
    content = golden_content()
    quick = Passphrase(
        lambda: SecretBytes(PASSPHRASE),
        provider="disk",
        make=lambda salt: Argon2Parameters(salt, 64, 1, 1),
    )
    document: dict[str, Any] = json.loads(encode(content, quick))
    return document


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: d.update(keys={}), "does not have exactly the members"),
        (lambda d: d.pop("sealed"), "does not have exactly the members"),
        (lambda d: d.update(passphrase=[]), "its passphrase is no object of argon2id"),
        (lambda d: d["passphrase"].update(kdf="scrypt"), "its passphrase is no object of argon2id"),
        (lambda d: d["passphrase"].update(extra=1), "its passphrase is no object of argon2id"),
        (lambda d: d["passphrase"].update(salt="XY"), "a parameter of its passphrase has the wrong type"),
        (lambda d: d["passphrase"].update(lanes=True), "a parameter of its passphrase has the wrong type"),
        (lambda d: d["passphrase"].update(memory_kib=7), "a parameter of its passphrase is out of bounds"),
        (
            lambda d: d["passphrase"].update(memory_kib=2**40),
            "a parameter of its passphrase is out of bounds",
        ),
        (lambda d: d["passphrase"].update(iterations=0), "a parameter of its passphrase is out of bounds"),
        (lambda d: d["passphrase"].update(lanes=65), "a parameter of its passphrase is out of bounds"),
        (lambda d: d.update(sealed=None), "its sealed part is not base64"),
        (lambda d: d.update(sealed="*" * 80), "its sealed part is not base64"),
        (lambda d: d.update(sealed="ä" * 80), "its sealed part is not base64"),
        (lambda d: d.update(sealed="AAAA"), "its sealed part is not base64"),
    ],
)
def test_each_damage_has_its_own_sentence(change: Change, sentence: str) -> None:
    document = quick_document()
    change(document)
    with pytest.raises(ProviderMisconfiguredError, match=f"is damaged: .*{sentence}.*; restore it"):
        decode(resealed(document), LABEL, lock())


@pytest.mark.parametrize("name", ["file_id", "salt", "sealed"])
def test_what_was_changed_with_a_matching_checksum_does_not_open(name: str) -> None:
    document = quick_document()
    holder = document["passphrase"] if name == "salt" else document
    holder[name] = ("B" if holder[name][0] != "B" else "C") + holder[name][1:]
    if name != "sealed":
        holder[name] = holder[name].lower()
    with pytest.raises(ProviderCredentialError, match="does not open with the passphrase"):
        decode(resealed(document), LABEL, lock())


def test_sealed_nonsense_is_damage() -> None:
    document = quick_document()
    parameters = document["passphrase"]
    key = Argon2id(
        salt=bytes.fromhex(parameters["salt"]), length=32, iterations=1, lanes=1, memory_cost=64
    ).derive(PASSPHRASE)
    header = {name: document[name] for name in ("format", "file_id", "passphrase")}
    for nonsense in (b"", b"[]", b"{", b'{"records": 1}'):
        sealed = bytes(12) + AESGCM(key).encrypt(bytes(12), nonsense, canonical(header))
        document["sealed"] = base64.b64encode(sealed).decode()
        with pytest.raises(ProviderMisconfiguredError, match="is damaged"):
            decode(resealed(document), LABEL, lock())


def test_no_memory_for_argon2_is_a_reason_to_try_later(monkeypatch: pytest.MonkeyPatch) -> None:
    class Greedy:
        def __init__(self, **_: object) -> None:
            pass

        def derive(self, _: bytes) -> bytes:
            raise MemoryError

    monkeypatch.setattr(key_file_passphrase, "Argon2id", Greedy)
    with pytest.raises(ProviderUnavailableError, match="the key file asks for 64 MiB"):
        decode(GOLDEN, LABEL, lock())


# --- the provider

Open = Callable[..., ProviderSettings]


@pytest.fixture
def settings(tmp_path: Path, _quick: None) -> Open:
    """Settings with the passphrase file ``name``, or without one."""

    def make(name: str | None = "passphrase") -> ProviderSettings:
        options: dict[str, object] = {"path": "keys.json"}
        if name is not None:
            options["passphrase"] = {"file": name}
        return ProviderSettings("disk", options, tmp_path)

    put(tmp_path / "passphrase", PASSPHRASE)
    put(tmp_path / "other", OTHER)
    return make


def put(path: Path, content: bytes) -> None:
    path.touch(0o600)
    path.write_bytes(content + b"\n")


@pytest.fixture
def administration(settings: Open) -> LocalFileAdministration:
    made = LocalFileProviderType().open_administration(settings())
    made.create("records")
    return made


@pytest.fixture
def provider(settings: Open, administration: LocalFileAdministration) -> Iterator[SoftwareKeyProvider]:
    assert administration is not None
    opened = LocalFileProviderType().open(settings())
    yield opened
    opened.close()


def made_by(provider: SoftwareKeyProvider, version: int = 1) -> DataKey:
    (result,) = provider.generate("records", version, [b""])
    assert isinstance(result, DataKey)
    return result


def health_of(provider: SoftwareKeyProvider, made: DataKey) -> tuple[HealthStatus, str]:
    health = provider.health(UnwrapItem(made.wrapped, b""))
    return health.status, health.detail


def opened_by(settings: ProviderSettings) -> None:
    LocalFileProviderType().open(settings).close()


def test_a_locked_file_holds_no_key_in_the_clear(
    provider: SoftwareKeyProvider, administration: LocalFileAdministration, tmp_path: Path
) -> None:
    administration.rotate("records")
    document = json.loads((tmp_path / "keys.json").read_text())
    assert document["format"] == "strongroom-key-file/2"
    assert set(document) == {"format", "file_id", "passphrase", "sealed", "checksum"}
    raw = (tmp_path / "keys.json").read_bytes()
    for version in provider._source.current().keys["records"].versions.values():
        assert base64.b64encode(version.material.reveal()) not in raw


def test_a_rotation_keeps_the_salt_and_never_the_nonce(
    administration: LocalFileAdministration, tmp_path: Path
) -> None:
    seen = []
    for _ in range(5):
        administration.rotate("records")
        document = json.loads((tmp_path / "keys.json").read_text())
        seen.append((document["passphrase"]["salt"], base64.b64decode(document["sealed"])[:12]))
    assert len({salt for salt, _ in seen}) == 1
    assert len({nonce for _, nonce in seen}) == 5


def test_three_mishaps_three_sentences(
    settings: Open, administration: LocalFileAdministration, tmp_path: Path
) -> None:
    assert administration is not None
    path = tmp_path / "keys.json"
    whole = path.read_bytes()
    for door in (LocalFileProviderType().open, LocalFileProviderType().open_administration):
        with pytest.raises(ProviderCredentialError, match="is whole, but does not open with the passphrase"):
            door(settings("other"))
        path.write_bytes(whole.replace(b'"lanes": 1', b'"lanes": 2'))
        with pytest.raises(
            ProviderMisconfiguredError, match="is damaged: its checksum does not match; restore it"
        ):
            door(settings())
        path.write_bytes(b"-----BEGIN PRIVATE KEY-----\n")
        with pytest.raises(ProviderMisconfiguredError, match=r"is not a Strongroom key file$"):
            door(settings())
        path.write_bytes(whole)
    opened_by(settings())


def test_configuration_and_file_must_agree(settings: Open, administration: LocalFileAdministration) -> None:
    for door in (LocalFileProviderType().open, LocalFileProviderType().open_administration):
        with pytest.raises(
            ProviderMisconfiguredError, match=r"is locked by a passphrase, .* add to \[providers.disk\]"
        ):
            door(settings(None))
    administration.change_passphrase(None)
    opened_by(settings(None))
    for door in (LocalFileProviderType().open, LocalFileProviderType().open_administration):
        with pytest.raises(ProviderMisconfiguredError, match="is not locked, although the configuration"):
            door(settings())


def test_a_short_passphrase_is_refused_for_a_new_file_and_changes_nothing(
    settings: Open, administration: LocalFileAdministration, tmp_path: Path
) -> None:
    before = (tmp_path / "keys.json").read_bytes()
    with pytest.raises(ProviderMisconfiguredError, match="fewer than 12 bytes"):
        administration.change_passphrase(SecretBytes(b"hunter2"))
    assert (tmp_path / "keys.json").read_bytes() == before
    put(tmp_path / "passphrase", b"hunter2")
    (tmp_path / "keys.json").unlink()
    with pytest.raises(ProviderMisconfiguredError, match="fewer than 12 bytes"):
        LocalFileProviderType().open_administration(settings()).create("records")
    assert not (tmp_path / "keys.json").exists()


def test_the_passphrase_changes_and_the_keys_stay(
    settings: Open, provider: SoftwareKeyProvider, administration: LocalFileAdministration, tmp_path: Path
) -> None:
    made = made_by(provider)
    before = json.loads((tmp_path / "keys.json").read_text())
    administration.change_passphrase(SecretBytes(OTHER))
    assert administration.rotate("records") == 2  # the same door goes on under the new one
    after = json.loads((tmp_path / "keys.json").read_text())
    assert after["file_id"] == before["file_id"]
    assert after["passphrase"]["salt"] != before["passphrase"]["salt"]
    with pytest.raises(ProviderCredentialError):
        opened_by(settings())
    reopened = LocalFileProviderType().open(settings("other"))
    assert health_of(reopened, made)[0] is HealthStatus.OK
    reopened.close()


def test_a_server_that_runs_takes_in_the_new_passphrase_without_a_restart(
    provider: SoftwareKeyProvider, administration: LocalFileAdministration, tmp_path: Path
) -> None:
    made = made_by(provider)
    administration.change_passphrase(SecretBytes(OTHER))
    administration.rotate("records")
    status, detail = health_of(provider, made)
    assert (status, "does not open with the passphrase" in detail) == (HealthStatus.OK, True)
    assert [each.version for each in provider.key_info("records").versions] == [1]
    put(tmp_path / "passphrase", OTHER)
    assert [each.version for each in provider.key_info("records").versions] == [1, 2]
    assert health_of(provider, made) == (HealthStatus.OK, "the canary was unwrapped")


def test_a_wrong_passphrase_is_not_tried_again_and_again(
    provider: SoftwareKeyProvider,
    administration: LocalFileAdministration,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = made_by(provider)
    administration.change_passphrase(SecretBytes(OTHER))
    os.utime(tmp_path / "keys.json", (1, 1))
    monkeypatch.setattr("keyproviders.key_file._SETTLED_NANOSECONDS", -1)  # as if it was changed long ago
    tried: list[int] = []
    derive = Passphrase._derive

    def counted(self: Passphrase, passphrase: SecretBytes, parameters: Argon2Parameters) -> SecretBytes:
        tried.append(1)
        return derive(self, passphrase, parameters)

    monkeypatch.setattr(Passphrase, "_derive", counted)
    for _ in range(50):
        health_of(provider, made)
    assert len(tried) == 1
    (tmp_path / "passphrase").unlink()
    health_of(provider, made)
    assert len(tried) == 1


def test_a_rotation_by_another_process_is_noticed_without_deriving_again(
    provider: SoftwareKeyProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = made_by(provider)
    script = """
import sys
from pathlib import Path
from keyproviders.interface import ProviderSettings
from keyproviders.local_file import LocalFileProviderType
options = {"path": "keys.json", "passphrase": {"file": "passphrase"}}
door = LocalFileProviderType().open_administration(ProviderSettings("disk", options, Path(sys.argv[1])))
print(door.rotate("records"))
door.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout == "2\n", done.stderr
    monkeypatch.setattr(Passphrase, "_derive", None)
    assert [each.version for each in provider.key_info("records").versions] == [1, 2]
    assert health_of(provider, made)[0] is HealthStatus.OK


def test_close_wipes_what_was_derived(provider: SoftwareKeyProvider) -> None:
    passphrase = provider._source._file.passphrase  # type: ignore[attr-defined]
    derived = passphrase._derived[1]
    assert len(derived) == 32
    provider.close()
    assert len(derived) == 0
    assert passphrase._derived is None


def test_nothing_of_the_passphrase_is_shown(settings: Open, administration: LocalFileAdministration) -> None:
    shown = [repr(administration), repr(administration._file.passphrase)]
    for door in (LocalFileProviderType().open, LocalFileProviderType().open_administration):
        with pytest.raises(KeyProviderError) as caught:
            door(settings("other"))
        shown += traceback.format_exception(caught.value)
    text = "".join(shown)
    assert PASSPHRASE.decode() not in text
    assert OTHER.decode() not in text
    assert caught.value.__context__ is None


# --- the backup


@pytest.mark.parametrize("name", ["passphrase", None])
def test_a_backup_is_the_file_private_and_on_the_disk(
    settings: Open, tmp_path: Path, name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    administration = LocalFileProviderType().open_administration(settings(name))
    administration.create("records")
    synced: list[bool] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        synced.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    umask = os.umask(0)
    try:
        administration.backup(tmp_path / "copy.json")
    finally:
        os.umask(umask)
    assert synced[-2:] == [False, True]
    copy = tmp_path / "copy.json"
    assert copy.read_bytes() == (tmp_path / "keys.json").read_bytes()
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert sorted(each.name for each in tmp_path.glob("*copy*")) == ["copy.json"]
    (tmp_path / "keys.json").unlink()
    copy.rename(tmp_path / "keys.json")
    opened_by(settings(name))


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda path: path.symlink_to("nowhere")])
def test_a_backup_overwrites_nothing(
    administration: LocalFileAdministration, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    copy = tmp_path / "copy.json"
    make(copy)
    before = copy.lstat()
    with pytest.raises(ProviderMisconfiguredError, match=r"copy\.json exists already and is not overwritten"):
        administration.backup(copy)
    assert copy.lstat() == before
    with pytest.raises(ProviderMisconfiguredError, match="exists already"):
        administration.backup(tmp_path / "keys.json")


def test_nothing_unsound_is_backed_up(administration: LocalFileAdministration, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ProviderMisconfiguredError, match="is damaged"):
        administration.backup(tmp_path / "copy.json")
    path.unlink()
    with pytest.raises(ProviderMisconfiguredError, match="does not exist"):
        administration.backup(tmp_path / "copy.json")
    assert not (tmp_path / "copy.json").exists()


@pytest.mark.parametrize("function", ["fsync", "replace", "write"])
def test_a_backup_that_fails_leaves_nothing(
    administration: LocalFileAdministration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    def failing(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, function, failing)
        with pytest.raises(ProviderUnavailableError, match=r"cannot copy to .*copy\.json"):
            administration.backup(tmp_path / "copy.json")
    assert not list(tmp_path.glob("*copy*"))


def test_a_backup_goes_to_a_folder_that_is_there(
    administration: LocalFileAdministration, tmp_path: Path
) -> None:
    with pytest.raises(ProviderMisconfiguredError, match=r"cannot copy to .*nowhere"):
        administration.backup(tmp_path / "nowhere" / "copy.json")


def test_a_closed_door_backs_up_and_locks_nothing(
    administration: LocalFileAdministration, tmp_path: Path
) -> None:
    administration.close()
    for call in (
        lambda: administration.backup(tmp_path / "copy.json"),
        lambda: administration.change_passphrase(None),
        lambda: administration.create("more"),
    ):
        with pytest.raises(ProviderUnavailableError, match="closed"):
            call()
    assert not (tmp_path / "copy.json").exists()
