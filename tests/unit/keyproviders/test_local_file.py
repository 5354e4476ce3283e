from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import resource
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from keyproviders import key_file
from keyproviders.errors import (
    KeyNotFoundError,
    KeyProviderError,
    KeyVersionRetiredError,
    ProviderMisconfiguredError,
    ProviderUnavailableError,
)
from keyproviders.interface import DataKey, HealthStatus, ProviderSettings, UnwrapItem
from keyproviders.key_file import KeyFile
from keyproviders.local_file import LocalFileAdministration, LocalFileProviderType
from keyproviders.software import SoftwareKeyProvider

ChildRunner = Callable[[Callable[[], None]], int]


@pytest.fixture
def settings(tmp_path: Path) -> ProviderSettings:
    return ProviderSettings("disk", {"path": "keys.json"}, tmp_path)


@pytest.fixture
def path(settings: ProviderSettings) -> Path:
    return settings.folder / "keys.json"


@pytest.fixture
def administration(settings: ProviderSettings) -> LocalFileAdministration:
    made = LocalFileProviderType().open_administration(settings)
    made.create("records")
    return made


@pytest.fixture
def provider(
    settings: ProviderSettings, administration: LocalFileAdministration
) -> Iterator[SoftwareKeyProvider]:
    assert administration is not None
    opened = LocalFileProviderType().open(settings)
    yield opened
    opened.close()


def made_by(provider: SoftwareKeyProvider, version: int = 1) -> DataKey:
    (result,) = provider.generate("records", version, [b""])
    assert isinstance(result, DataKey)
    return result


def is_open(provider: SoftwareKeyProvider, made: DataKey) -> bool:
    return provider.health(UnwrapItem(made.wrapped, b"")).status is HealthStatus.OK


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def age(path: Path) -> None:
    """Let the file be one that was changed long ago: from then on stat alone tells whether it changed."""
    deadline = time.monotonic() + 10
    file = KeyFile(path, provider="disk")
    while file.read()[1] is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def fails(number: int) -> Callable[..., None]:
    def failing(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return failing


# --- options and the missing file


def test_unknown_options_are_refused_by_name(tmp_path: Path) -> None:
    settings = ProviderSettings("disk", {"path": "keys.json", "paht": "hunter2", "mode": 1}, tmp_path)
    for door in (LocalFileProviderType().open, LocalFileProviderType().open_administration):
        with pytest.raises(
            ProviderMisconfiguredError, match=r"unknown options: mode, paht \(known are: passphrase, path\)"
        ) as caught:
            door(settings)
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("value", [None, "", 7, ["keys.json"], "a\0b"])
def test_path_is_required(tmp_path: Path, value: object) -> None:
    options = {} if value is None else {"path": value}
    with pytest.raises(ProviderMisconfiguredError, match=r'\[providers.disk\] needs path = "PATH"'):
        LocalFileProviderType().open(ProviderSettings("disk", options, tmp_path))


def test_a_missing_file_names_init_and_the_loss(settings: ProviderSettings) -> None:
    with pytest.raises(
        ProviderMisconfiguredError, match=r"`strongroom init` creates one.*a lost key file means lost data"
    ):
        LocalFileProviderType().open(settings)
    assert list(settings.folder.iterdir()) == []


def test_only_create_makes_a_missing_file(settings: ProviderSettings, path: Path) -> None:
    administration = LocalFileProviderType().open_administration(settings)
    for call in (
        lambda: administration.rotate("records"),
        lambda: administration.retire("records", 1),
        lambda: administration.destroy("records", 1),
    ):
        with pytest.raises(ProviderMisconfiguredError, match="does not exist"):
            call()
    assert list(settings.folder.iterdir()) == []
    administration.create("records")
    assert path.exists()


def test_create_makes_a_private_folder_and_file(tmp_path: Path) -> None:
    settings = ProviderSettings("disk", {"path": "new/deep/keys.json"}, tmp_path)
    LocalFileProviderType().open_administration(settings).create("records")
    folder = tmp_path / "new" / "deep"
    assert mode_of(folder) == 0o700
    assert {each.name: mode_of(each) for each in folder.iterdir()} == {
        "keys.json": 0o600,
        "keys.json.lock": 0o600,
    }


def test_the_mode_does_not_depend_on_the_umask(settings: ProviderSettings, path: Path) -> None:
    for umask in (0o000, 0o277):
        before = os.umask(umask)
        try:
            LocalFileProviderType().open_administration(settings).create(f"key{umask}")
        finally:
            os.umask(before)
        assert mode_of(path) == 0o600


def test_the_temporary_file_is_private_from_its_first_byte(
    administration: LocalFileAdministration, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    write = os.write

    def watched(descriptor: int, data: bytes) -> int:
        seen.extend(mode_of(each) for each in path.parent.glob(".keys.json.*.tmp"))
        return write(descriptor, data[:7])  # short writes are allowed: all of it must arrive nevertheless

    fchmod = os.fchmod

    def watched_fchmod(descriptor: int, mode: int) -> None:
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))  # as the file was created
        fchmod(descriptor, mode)

    monkeypatch.setattr(os, "write", watched)
    monkeypatch.setattr(os, "fchmod", watched_fchmod)
    before = os.umask(0)
    try:
        assert administration.rotate("records") == 2
    finally:
        os.umask(before)
    assert len(seen) > 10
    assert set(seen) == {0o600}


# --- who may read it


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o606, 0o620, 0o602, 0o610, 0o700, 0o4600])
def test_a_file_open_to_others_is_refused_with_the_command_that_closes_it(
    settings: ProviderSettings, administration: LocalFileAdministration, path: Path, mode: int
) -> None:
    path.chmod(mode)
    for door in (LocalFileProviderType().open, LocalFileProviderType().open_administration):
        with pytest.raises(ProviderMisconfiguredError, match=f"has mode {mode:04o}.*chmod 600 {path}"):
            door(settings)
    with pytest.raises(ProviderMisconfiguredError, match="chmod 600"):
        administration.rotate("records")
    path.chmod(0o600)
    LocalFileProviderType().open(settings).close()


def test_a_read_only_file_is_fine(
    settings: ProviderSettings, administration: LocalFileAdministration, path: Path
) -> None:
    path.chmod(0o400)
    LocalFileProviderType().open(settings).close()
    assert administration.rotate("records") == 2
    assert mode_of(path) == 0o600


def test_the_chmod_command_survives_a_path_with_spaces(tmp_path: Path) -> None:
    settings = ProviderSettings("disk", {"path": "my keys.json"}, tmp_path)
    LocalFileProviderType().open_administration(settings).create("records")
    (tmp_path / "my keys.json").chmod(0o644)
    with pytest.raises(ProviderMisconfiguredError, match=f"chmod 600 '{tmp_path}/my keys.json'"):
        LocalFileProviderType().open(settings)


def test_a_file_of_another_user_is_refused(
    settings: ProviderSettings, administration: LocalFileAdministration, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert administration is not None
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    with pytest.raises(
        ProviderMisconfiguredError, match=f"belongs to user id {mine}, .* user id {mine + 1}; .*chown"
    ):
        LocalFileProviderType().open(settings)


def test_the_mode_is_asked_of_what_was_opened(
    settings: ProviderSettings,
    administration: LocalFileAdministration,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert administration is not None
    swapped = path.with_name("private.json")
    shutil.copy(path, swapped)
    swapped.chmod(0o600)
    path.chmod(0o644)
    opening = os.open

    def race(name: os.PathLike[str] | str, flags: int, mode: int = 0o777) -> int:
        descriptor = opening(name, flags, mode)
        swapped.replace(path)  # a check of the path would now see a private file
        return descriptor

    monkeypatch.setattr(os, "open", race)
    with pytest.raises(ProviderMisconfiguredError, match="has mode 0644"):
        LocalFileProviderType().open(settings)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_no_file_is_refused_without_waiting(
    settings: ProviderSettings, path: Path, make: Callable[[Path], None]
) -> None:
    make(path)
    with pytest.raises(ProviderMisconfiguredError, match="it is not a regular file"):
        LocalFileProviderType().open(settings)


def test_a_symbolic_link_stays_one(settings: ProviderSettings, path: Path) -> None:
    real = settings.folder / "volume" / "real.json"
    elsewhere = ProviderSettings("disk", {"path": str(real)}, settings.folder)
    LocalFileProviderType().open_administration(elsewhere).create("records")
    path.symlink_to(real)
    assert LocalFileProviderType().open_administration(settings).rotate("records") == 2
    assert path.is_symlink()
    assert LocalFileProviderType().open_administration(elsewhere).rotate("records") == 3


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.EACCES, ProviderMisconfiguredError), (errno.EIO, ProviderUnavailableError)]
)
def test_what_the_disk_refuses_is_told_apart(
    settings: ProviderSettings,
    administration: LocalFileAdministration,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    kind: type[Exception],
) -> None:
    assert administration is not None
    monkeypatch.setattr(os, "open", fails(number))
    with pytest.raises(kind, match=f"cannot open key file .*: {os.strerror(number)}") as caught:
        LocalFileProviderType().open(settings)
    assert type(caught.value) is kind


def test_a_file_of_any_length_is_not_read_whole(settings: ProviderSettings, path: Path) -> None:
    path.touch(0o600)
    os.truncate(path, 2**33)  # sparse
    with pytest.raises(ProviderMisconfiguredError, match="too long"):
        LocalFileProviderType().open(settings)


# --- a change arrives whole or not at all


@pytest.mark.parametrize("function", ["fsync", "replace", "write", "fchmod"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_failed_write_leaves_the_old_file_and_no_other(
    administration: LocalFileAdministration,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    number: int,
) -> None:
    before = path.read_bytes()
    expected = ProviderMisconfiguredError if number == errno.EROFS else ProviderUnavailableError
    with monkeypatch.context() as patch:
        patch.setattr(os, function, fails(number))
        with pytest.raises(expected, match="cannot write key file") as caught:
            administration.rotate("records")
    assert isinstance(caught.value.__cause__, OSError)
    assert path.read_bytes() == before
    assert sorted(each.name for each in path.parent.iterdir()) == ["keys.json", "keys.json.lock"]
    assert administration.rotate("records") == 2


def test_a_folder_that_does_not_confirm_is_reported_as_in_place(
    administration: LocalFileAdministration, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def failing(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "injected")
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(
            ProviderUnavailableError, match="is written and in place, but the disk did not confirm it"
        ):
            administration.rotate("records")
    assert json.loads(path.read_text())["keys"]["records"]["highest_version"] == 2
    assert administration.rotate("records") == 3


def test_file_and_folder_are_synced_in_order(
    administration: LocalFileAdministration, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []
    fsync, rename = os.fsync, os.replace

    def watched_fsync(descriptor: int) -> None:
        happened.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def watched_replace(source: Path, target: Path) -> None:
        happened.append("replace")
        assert Path(source).parent == Path(target).parent == path.parent
        rename(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    administration.rotate("records")
    assert happened == ["file", "replace", "folder"]


def test_a_kill_before_the_rename_loses_nothing_and_its_leftover_is_removed(
    administration: LocalFileAdministration,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    exit_code_of_child: ChildRunner,
) -> None:
    before = path.read_bytes()

    def rotate_and_die() -> None:
        monkeypatch.setattr(os, "replace", lambda *_: os._exit(9))
        administration.rotate("records")

    assert exit_code_of_child(rotate_and_die) == 9
    assert path.read_bytes() == before
    assert len(list(path.parent.glob(".keys.json.*.tmp"))) == 1
    assert administration.rotate("records") == 2
    assert list(path.parent.glob(".keys.json.*.tmp")) == []


def test_a_full_disk_loses_nothing(
    administration: LocalFileAdministration, path: Path, exit_code_of_child: ChildRunner
) -> None:
    before = path.read_bytes()

    def rotate_on_a_full_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        with pytest.raises(
            ProviderUnavailableError, match=f"cannot write key file .*: {os.strerror(errno.EFBIG)}"
        ):
            administration.rotate("records")

    assert exit_code_of_child(rotate_on_a_full_disk) == 0
    assert path.read_bytes() == before
    assert sorted(each.name for each in path.parent.iterdir()) == ["keys.json", "keys.json.lock"]


def test_administrators_in_several_processes_never_share_a_version(
    settings: ProviderSettings, administration: LocalFileAdministration, path: Path
) -> None:
    assert administration is not None
    children = []
    for _ in range(4):
        child = os.fork()
        if not child:
            code = 70
            try:
                door = LocalFileProviderType().open_administration(settings)
                for _ in range(5):
                    door.rotate("records")
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    versions = [each["version"] for each in json.loads(path.read_text())["keys"]["records"]["versions"]]
    assert versions == list(range(1, 22))


def test_a_lock_that_is_not_let_go_of_is_unavailable(
    path: Path, administration: LocalFileAdministration
) -> None:
    assert administration is not None
    impatient = LocalFileAdministration(KeyFile(path, provider="disk", lock_seconds=0.05))
    with Path(f"{path}.lock").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(
            ProviderUnavailableError, match=r"is being changed by another administrator; waited 0\.05"
        ):
            impatient.rotate("records")
    assert impatient.rotate("records") == 2


def test_destroy_removes_the_material_from_the_file_and_keeps_the_number(
    administration: LocalFileAdministration, path: Path
) -> None:
    administration.rotate("records")
    document = json.loads(path.read_text())
    gone = document["keys"]["records"]["versions"][1]["material"]
    administration.retire("records", 2)
    administration.destroy("records", 2)
    after = json.loads(path.read_text())
    assert gone not in path.read_text()
    assert [each["version"] for each in after["keys"]["records"]["versions"]] == [1]
    assert after["keys"]["records"]["highest_version"] == 2
    assert after["file_id"] == document["file_id"]


# --- a file that changes under a running provider


def test_a_rotation_by_another_process_is_seen_at_once(
    provider: SoftwareKeyProvider,
    administration: LocalFileAdministration,
    path: Path,
    exit_code_of_child: ChildRunner,
) -> None:
    age(path)
    made_by(provider)
    assert exit_code_of_child(lambda: administration.rotate("records") and None) == 0
    assert made_by(provider, 2).wrapped.version == 2


def test_a_change_is_seen_even_if_stat_shows_nothing_new(
    settings: ProviderSettings, administration: LocalFileAdministration, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two changes within one tick of the clock can leave the same inode number, length and times.
    same = (1, 2, 3, time.time_ns(), time.time_ns() + 60 * 10**9)
    monkeypatch.setattr(key_file, "_signature", lambda _status: same)
    provider = LocalFileProviderType().open(settings)
    made = made_by(provider)
    administration.retire("records", 1)
    with pytest.raises(KeyVersionRetiredError):
        made_by(provider)
    assert not is_open(provider, made)


def test_an_unchanged_file_is_not_read_again(
    provider: SoftwareKeyProvider, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    age(path)
    made = made_by(provider)
    monkeypatch.setattr(os, "open", fails(errno.EIO))
    assert is_open(provider, made)
    with pytest.raises(KeyNotFoundError):
        made_by(provider, 2)
    assert is_open(provider, made)


Harm = Callable[[Path], object]


HARMS: dict[str, Harm] = {
    "does not exist": Path.unlink,
    "is damaged": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "is not a Strongroom key file": lambda path: path.write_bytes(b""),
    "chmod 600": lambda path: path.chmod(0o644),
}


@pytest.mark.parametrize("reason", HARMS)
def test_a_file_that_goes_bad_takes_no_key_away(
    settings: ProviderSettings,
    provider: SoftwareKeyProvider,
    administration: LocalFileAdministration,
    path: Path,
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = made_by(provider)
    good = path.read_bytes()
    HARMS[reason](path)
    for _ in range(3):
        assert is_open(provider, made)
        made_by(provider)
        with pytest.raises(KeyNotFoundError):
            made_by(provider, 2)
    health = provider.health(UnwrapItem(made.wrapped, b""))
    assert health.status is HealthStatus.OK
    assert reason in health.detail
    (record,) = [each for each in caplog.records if each.name == "keyproviders.local_file"]
    assert record.levelno == logging.ERROR
    with pytest.raises(ProviderMisconfiguredError, match=reason):
        LocalFileProviderType().open(settings)
    path.write_bytes(good)
    path.chmod(0o600)
    administration.rotate("records")
    assert made_by(provider, 2).wrapped.version == 2
    assert provider.health(UnwrapItem(made.wrapped, b"")).detail == "the canary was unwrapped"


def test_an_older_copy_takes_no_version_away(
    provider: SoftwareKeyProvider, administration: LocalFileAdministration, path: Path
) -> None:
    older = path.read_bytes()
    administration.rotate("records")
    made = made_by(provider, 2)
    path.write_bytes(older)
    assert is_open(provider, made)
    assert "an older copy" in provider.health(UnwrapItem(made.wrapped, b"")).detail


def test_another_key_file_takes_no_key_away(
    provider: SoftwareKeyProvider, path: Path, tmp_path: Path
) -> None:
    made = made_by(provider)
    other = ProviderSettings("disk", {"path": "other/keys.json"}, tmp_path)
    LocalFileProviderType().open_administration(other).create("records")
    (tmp_path / "other" / "keys.json").replace(path)
    assert is_open(provider, made)
    assert "another key file" in provider.health(UnwrapItem(made.wrapped, b"")).detail


def test_close_wipes_the_keys_and_a_call_under_way_never_uses_zeros(
    provider: SoftwareKeyProvider, path: Path
) -> None:
    age(path)
    made_by(provider)
    keys = provider._source.current()
    made = made_by(provider)
    kek = keys.keys["records"].versions[1]
    provider.close()
    assert len(kek.material) == 0
    with pytest.raises(ProviderUnavailableError, match="closed during the call"):
        provider._wrap("records", kek, made.plaintext)
    with pytest.raises(ProviderUnavailableError, match="closed during the call"):
        provider._unwrap(keys, made.wrapped)


def test_close_during_calls_ends_in_try_later_only(
    settings: ProviderSettings, provider: SoftwareKeyProvider
) -> None:
    made = made_by(provider)
    for _ in range(20):
        victim = LocalFileProviderType().open(settings)
        ended: list[Exception] = []

        def call(victim: SoftwareKeyProvider = victim, ended: list[Exception] = ended) -> None:
            try:
                while True:
                    (result,) = victim.unwrap([UnwrapItem(made.wrapped, b"")])
                    assert result.reveal() == made.plaintext.reveal()  # type: ignore[union-attr]
            except (KeyProviderError, ValueError) as raised:
                ended.append(raised)

        caller = threading.Thread(target=call)
        caller.start()
        victim.close()
        caller.join(10)
        assert [type(error) for error in ended] == [ProviderUnavailableError]


def test_a_stored_key_still_opens_after_everything_was_reopened(
    settings: ProviderSettings, provider: SoftwareKeyProvider, administration: LocalFileAdministration
) -> None:
    made = made_by(provider)
    provider.close()
    administration.close()
    reopened = LocalFileProviderType().open(settings)
    (result,) = reopened.unwrap([UnwrapItem(replace(made.wrapped), b"")])
    assert result.reveal() == made.plaintext.reveal()  # type: ignore[union-attr]
    reopened.close()
