"""The table of a PKCS#11 provider is checked before any library is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyproviders import pkcs11_options
from keyproviders.errors import ProviderMisconfiguredError
from keyproviders.interface import ProviderSettings
from keyproviders.pkcs11_options import Pkcs11Options, read_options

PIN = "2468-secret"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pin").touch(0o600)
    (tmp_path / "pin").write_text(PIN + "\n")
    (tmp_path / "module.so").touch()
    return tmp_path


def read(folder: Path, admin: dict[str, object] | None = None, **options: object) -> Pkcs11Options:
    table: dict[str, object] = {"module": "./module.so", "token_label": "t", "pin": {"file": "pin"}} | options
    kept = {name: value for name, value in table.items() if value is not None}
    return read_options(ProviderSettings("hsm", kept, folder, admin or {}))


def test_the_least_table_and_its_defaults(folder: Path) -> None:
    options = read(folder)
    assert options.module == folder / "module.so"
    assert (options.token_label, options.token_serial) == ("t", None)
    assert options.pin.reveal() == PIN.encode()
    assert options.lock_folder == folder
    assert options.generate_inside is False
    assert options.algorithm == "auto"
    assert PIN not in repr(options)


def test_everything_set(folder: Path) -> None:
    (folder / "locks").mkdir()
    options = read(
        folder,
        {"algorithm": "A256KWP"},
        token_label=None,
        token_serial="0123",
        user="app",
        lock_folder="locks",
        wait_seconds=0.5,
        generate_inside=True,
    )
    assert (options.token_label, options.token_serial) == (None, "0123")
    assert options.pin.reveal() == b"app:" + PIN.encode()
    assert options.lock_folder == folder / "locks"
    assert (options.wait_seconds, options.generate_inside, options.algorithm) == (0.5, True, "A256KWP")
    assert "0123" in options.token_name


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"module": None}, "module"),
        ({"module": "./absent.so"}, "there is no absent.so"),
        ({"module": "absent.so"}, "there is no absent.so in /usr/lib"),
        ({"token_label": None}, "exactly one of token_label and token_serial"),
        ({"token_serial": "1"}, "exactly one of token_label and token_serial"),
        ({"token_label": ""}, "token_label"),
        ({"token_label": 7}, "token_label"),
        ({"pin": None}, "needs pin"),
        ({"pin": PIN}, "a secret does not stand in the configuration"),
        ({"pin": {"file": "absent"}}, "cannot be read"),
        ({"user": ""}, "user"),
        ({"lock_folder": "absent"}, "lock_folder"),
        ({"wait_seconds": 0}, "wait_seconds"),
        ({"wait_seconds": True}, "wait_seconds"),
        ({"generate_inside": "yes"}, "generate_inside = true or false"),
        ({"tokenlabel": "t"}, "unknown options: tokenlabel"),
    ],
)
def test_a_wrong_option_is_named(folder: Path, changed: dict[str, object], said: str) -> None:
    with pytest.raises(ProviderMisconfiguredError, match=said) as caught:
        read(folder, **changed)
    assert PIN not in str(caught.value)
    assert caught.value.provider == "hsm"


@pytest.mark.parametrize(
    ("admin", "said"),
    [
        ({"algorithm": "AES"}, "one of auto, A256GCM, A256KWP"),
        ({"algorithm": 7}, "one of auto, A256GCM, A256KWP"),
        ({"pin": {"file": "pin"}}, "unknown options: pin"),
    ],
)
def test_a_wrong_option_of_the_administrator_is_named(
    folder: Path, admin: dict[str, object], said: str
) -> None:
    with pytest.raises(ProviderMisconfiguredError, match=said):
        read(folder, admin)


def test_a_pin_that_is_no_text_is_not_shown(folder: Path) -> None:
    (folder / "pin").write_bytes(b"\xff\xfe" + PIN.encode())
    with pytest.raises(ProviderMisconfiguredError, match="no UTF-8") as caught:
        read(folder)
    assert caught.value.__context__ is None
    assert PIN not in str(caught.value)


def test_a_bare_name_is_looked_up_in_the_system_and_never_beside_the_configuration(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = tmp_path / "system"
    system.mkdir()
    monkeypatch.setattr(pkcs11_options, "_library_folders", lambda: [tmp_path / "none", system])
    with pytest.raises(ProviderMisconfiguredError, match="there is no module"):
        read(folder, module="module.so")
    (system / "module.so").touch()
    assert read(folder, module="module.so").module == system / "module.so"


def test_one_module_has_one_path_however_it_is_spelt(folder: Path) -> None:
    (folder / "link.so").symlink_to("module.so")
    assert read(folder, module="./link.so").module == read(folder, module=f"{folder}/module.so").module
