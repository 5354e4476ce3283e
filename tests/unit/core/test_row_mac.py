from __future__ import annotations

import dataclasses
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyproviders.interface import SecretBytes
from vault.core.encoding import encode_fields
from vault.core.errors import IntegrityError
from vault.core.row_mac import RowAuthenticator, row_message
from vault.core.row_shape import check_shape
from vault.core.rows import CollectionRow, RecordHistoryRow, RecordRow, Row
from vault.storage.tables import TABLE_OF

ROW_TYPES = sorted(TABLE_OF, key=lambda row_type: row_type.TABLE)
AUTHENTICATOR = RowAuthenticator({1: SecretBytes(bytes(32)), 2: SecretBytes(bytes(31) + b"\1")}, 1)
VALUE: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(0, 2**63 - 1),
    str: st.text(max_size=12),
    bytes: st.binary(max_size=12),
    type(None): st.none(),
}
# Whatever a SQLite column can be made to hold.
TAMPERED = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.binary(max_size=12),
    st.text(st.characters(), max_size=12),  # half surrogate pairs, too
)


def row_of(row_type: type[Row]) -> st.SearchStrategy[Any]:
    columns = {}
    for name, hint in get_type_hints(row_type).items():
        if name not in {"id", "mac", "mac_key_id", "TABLE"}:
            kinds = getattr(hint, "__args__", (hint,))
            columns[name] = st.one_of([VALUE[kind] for kind in kinds])
    return st.builds(row_type, **columns)


def columns_of(row_type: type[Row]) -> list[str]:
    return [field.name for field in dataclasses.fields(row_type) if field.name not in {"id", "mac"}]


@pytest.mark.parametrize("row_type", ROW_TYPES, ids=lambda row_type: row_type.TABLE)
def test_any_change_of_any_column_is_caught(row_type: type[Row]) -> None:
    @given(row_of(row_type), st.sampled_from(columns_of(row_type)), TAMPERED)
    def check(row: Any, name: str, value: object) -> None:
        signed = AUTHENTICATOR.sign(row)
        AUTHENTICATOR.check(signed)
        AUTHENTICATOR.check(dataclasses.replace(signed, id=7))
        kept = getattr(signed, name)
        if type(value) is type(kept) and value == kept:
            return
        changed = dataclasses.replace(signed, **{name: value})
        with pytest.raises(IntegrityError) as refused:
            AUTHENTICATOR.check(changed)
        assert refused.value.finding == "row-mac"
        assert row_type.TABLE in refused.value.where
        refused.value.where.encode()  # printable, whatever the row holds

    check()


@pytest.mark.parametrize("row_type", ROW_TYPES, ids=lambda row_type: row_type.TABLE)
def test_the_message_is_the_documented_encoding(row_type: type[Row]) -> None:
    @given(row_of(row_type))
    def check(row: Any) -> None:
        fields: list[Any] = [row_type.TABLE]
        for name in sorted(columns_of(row_type)):
            value = getattr(row, name)
            if isinstance(value, int):
                fields += [name, "i", value + 2**63]
            elif value is not None:
                fields += [name, "t" if isinstance(value, str) else "b", value]
        assert row_message(row) == encode_fields("strongroom/row-mac/v1", *fields)

    check()


ROW = CollectionRow(
    tenant="default",
    name="users",
    schema_version=1,
    keyring="default",
    revision=1,
    created_at=0,
    updated_at=0,
)
RECORD = {
    "tenant": "default",
    "collection": "users",
    "token": bytes(16),
    "generation": 1,
    "seal_epoch": 1,
    "revision": 1,
    "schema_version": 1,
    "format": 1,
    "keyring": "default",
    "key_version": 1,
    "wrapped_dek": b"",
    "sealed_document": b"",
    "write_id": bytes(8),
    "created_at": 0,
    "updated_at": 0,
}


@pytest.mark.parametrize(
    ("signed", "stored"),
    [(b"", None), (None, b""), (b"", ""), (b"1", "1"), (b"\0" * 8, 0), (None, 0), (None, "")],
)
def test_values_that_look_alike_are_told_apart(signed: Any, stored: Any) -> None:
    row = AUTHENTICATOR.sign(RecordRow(**RECORD | {"sealed_document": signed}))
    with pytest.raises(IntegrityError, match=r"^row-mac: "):
        AUTHENTICATOR.check(dataclasses.replace(row, sealed_document=stored))


def test_a_row_of_another_table_is_caught() -> None:
    signed = AUTHENTICATOR.sign(RecordRow(**RECORD))
    columns = {name: getattr(signed, name) for name in columns_of(RecordRow)} | {"mac": signed.mac}
    with pytest.raises(IntegrityError, match=r"^row-mac: record_history "):
        AUTHENTICATOR.check(RecordHistoryRow(**columns))


@pytest.mark.parametrize("mac", [b"", bytes(32), bytes(31), "text", None, 5, 1.0])
def test_no_other_mac_passes(mac: Any) -> None:
    with pytest.raises(IntegrityError, match=r"^row-mac: collection users$"):
        AUTHENTICATOR.check(dataclasses.replace(AUTHENTICATOR.sign(ROW), mac=mac))


@pytest.mark.parametrize("key_id", [0, 2, 3, -1, "1", b"1", 1.0, None])
def test_no_other_key_id_passes(key_id: Any) -> None:
    with pytest.raises(IntegrityError, match=r"^row-mac: collection users$"):
        AUTHENTICATOR.check(dataclasses.replace(AUTHENTICATOR.sign(ROW), mac_key_id=key_id))


def test_each_row_is_checked_with_the_key_that_it_names() -> None:
    later = RowAuthenticator({1: SecretBytes(bytes(32)), 2: SecretBytes(bytes(31) + b"\1")}, 2)
    old, new = AUTHENTICATOR.sign(ROW), later.sign(ROW)
    assert (old.mac_key_id, new.mac_key_id) == (1, 2)
    assert old.mac != new.mac
    for authenticator in (AUTHENTICATOR, later):
        authenticator.check(old)
        authenticator.check(new)


def test_a_half_surrogate_in_a_name_is_printable_in_the_finding() -> None:
    with pytest.raises(IntegrityError) as refused:
        AUTHENTICATOR.check(dataclasses.replace(AUTHENTICATOR.sign(ROW), name="\udced"))
    assert refused.value.where == "collection \\udced"


@pytest.mark.parametrize("row_type", ROW_TYPES, ids=lambda row_type: row_type.TABLE)
def test_shape_is_what_the_columns_are_for(row_type: type[Row]) -> None:
    hints = get_type_hints(row_type)

    @given(row_of(row_type), st.sampled_from(columns_of(row_type)), TAMPERED)
    def check(row: Any, name: str, value: Any) -> None:
        signed = AUTHENTICATOR.sign(row)
        check_shape(signed)
        fits = isinstance(value, hints[name]) and not (isinstance(value, int) and value < 0)
        if isinstance(value, str):
            fits = fits and not any("\ud800" <= character <= "\udfff" for character in value)
        changed = dataclasses.replace(signed, **{name: value})
        if fits:
            check_shape(changed)
            return
        with pytest.raises(IntegrityError) as refused:
            check_shape(changed)
        assert refused.value.finding == "row-shape"

    check()
