"""The frozen vectors through the product's own functions and through the second decoder."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import pytest
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap

from keyproviders.interface import SecretBytes
from keyproviders.software import unwrap_key, wrap_key
from vault.audit.entry import EntryOrigin, canonical_entry, read_entry
from vault.audit.events import Action, AuditEvent, Result
from vault.core import credentials
from vault.core.blind_index import BlindIndex, IndexedFieldName
from vault.core.content import Content
from vault.core.context import RecordContext, SealContext, StoredKeyContext
from vault.core.encoding import encode_fields
from vault.core.errors import IntegrityError
from vault.core.row_mac import RowAuthenticator, row_message
from vault.core.rows import Row
from vault.core.sealing import open_sealed, seal
from vault.storage.tables import TABLE_OF

Vectors = Callable[[str], list[dict[str, Any]]]
Decided = Callable[[str, object], None]

HERE = Path(__file__).parent
FROZEN = {
    "audit-entry.json": "52a754707990f1221d69a2027db6fdd123b34f91e5eb768d4b1e7e00e2845af5",
    "blind-index.json": "bca90e857bfd56eba992f32a15fdb064df49b6f6e4f2fef67e6dd82223017942",
    "credential.json": "dd7d4f7b4a815c06e86d6b91d1a2fa203c575141fd8dc569de5f3a7f63104412",
    "encoding.json": "5d22e0a67040a33053a6cfa79434f4a29beac68d06ce752af94e3fa7b40f3c68",
    "row-mac.json": "9ec0212915a925a50ee343af950144d028f286597d16136a533c6e2d2c3a7cfe",
    "sealed-record.json": "5d12b1dd2bd889f7edfb4f267ba7be7cb97fdc70f751e2743e1b2cd11eb4cacb",
    "stored-key.json": "19d66616538ba4f21080d97271218c57541a7a4b589aa0483a25ed7684c892d8",
    "wrapped-dek.json": "cb7b22aa5ca180e332bfd801e6c018e1331f446c3892ff3831adb527871a6210",
}
ROW_TYPES: dict[str, type[Row]] = {row_type.TABLE: row_type for row_type in TABLE_OF}


def test_vector_files_never_change() -> None:
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in HERE.glob("*.json")}
    assert found == FROZEN, (
        "The formats are frozen: rows written years ago are read by them. A vector file is never changed. A new "
        "format gets a new version, a new label and a new vector file beside the old one, which stays (docs/formats/)."
    )


def test_every_vector_file_says_where_it_comes_from() -> None:
    for name in FROZEN:
        document = json.loads((HERE / name).read_text("ascii"))
        assert document.keys() == {"format", "specification", "provenance", "vectors"}
        assert "release 0.1" in document["provenance"]
        assert (HERE.parents[1] / document["specification"]).is_file()
        assert all(vector["expect"] for vector in document["vectors"])


def test_the_second_decoder_imports_nothing_of_the_product() -> None:
    tree = ast.parse((HERE / "independent_decoder.py").read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    ours = {name for name in imported if name.split(".")[0] in {"vault", "keyproviders", "strongroom", "."}}
    assert not ours
    assert {name for name in imported if name.startswith("cryptography")} == {
        "cryptography.exceptions",
        "cryptography.hazmat.primitives.ciphers",
    }


def value_of(stated: dict[str, str] | None) -> Any:
    if stated is None:
        return None
    ((kind, text),) = stated.items()
    return {"integer": int, "bytes": bytes.fromhex, "text": str}[kind](text)


def test_encoding(vectors: Vectors, decoder: ModuleType, decided: Decided) -> None:
    counts: Counter[str] = Counter()
    for vector in vectors("encoding"):
        fields = [value_of(field) for field in vector["fields"]]
        if "error" in vector["expect"]:
            assert vector["expect"]["error"] == "OverflowError"
            with pytest.raises(OverflowError):
                encode_fields(vector["label"], *fields)
            counts["refused"] += 1
        else:
            expected = bytes.fromhex(vector["expect"]["bytes"])
            assert encode_fields(vector["label"], *fields) == expected, vector["name"]
            assert decoder.encode_fields(vector["label"], *fields) == expected, vector["name"]
            counts["encoded"] += 1
    decided("encoding", dict(counts))
    assert counts == {"encoded": 10, "refused": 2}


def check_seal(
    vector: dict[str, Any], context: SealContext, decoder: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> str:
    key, sealed = bytes.fromhex(vector["key"]), bytes.fromhex(vector["sealed"])
    associated_data = bytes.fromhex(vector["associated_data"])
    assert context.associated_data() == associated_data, vector["name"]
    if "error" in vector["expect"]:
        with pytest.raises(IntegrityError) as refused:
            open_sealed(sealed, dek=SecretBytes(key), context=context, where="vector")
        assert refused.value.finding == vector["expect"]["error"], vector["name"]
        with pytest.raises(decoder.FormatError, match=f"^{vector['expect']['error']}$"):
            decoder.open_sealed(sealed, key, associated_data)
        return vector["expect"]["error"]
    plaintext = bytes.fromhex(vector["expect"]["plaintext"])
    assert open_sealed(sealed, dek=SecretBytes(key), context=context, where="vector") == plaintext
    assert decoder.open_sealed(sealed, key, associated_data) == plaintext, vector["name"]
    monkeypatch.setattr("vault.core.sealing.os.urandom", lambda _count: bytes.fromhex(vector["nonce"]))
    assert seal(plaintext, dek=SecretBytes(key), context=context) == sealed, vector["name"]
    return "opened and sealed"


def test_sealed_record(
    vectors: Vectors, decoder: ModuleType, decided: Decided, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: Counter[str] = Counter()
    for vector in vectors("sealed-record"):
        stated = vector["context"] | {"token": bytes.fromhex(vector["context"]["token"])}
        counts[check_seal(vector, RecordContext(**stated), decoder, monkeypatch)] += 1
        assert decoder.record_context(stated).hex() == vector["associated_data"]
    decided("sealed-record", dict(counts))
    assert counts == {"opened and sealed": 9, "seal-format": 7, "seal": 17}


def test_documents_inside_the_sealed_records(vectors: Vectors) -> None:
    found = {
        vector["name"]: Content.from_bytes(bytes.fromhex(vector["expect"]["plaintext"]))
        for vector in vectors("sealed-record")
        if vector["expect"].get("plaintext")
    }
    assert found["a document"] == Content({"email": "anna@example.com", "name": "Anna"}, None)
    assert found["a document with a region"] == Content({"phone": "030 123456"}, "DE")
    indexed = {"email": {"email/1": "anna@example.com"}, "phone": {"phone/1": "+4930123456"}}
    data = {"phone": "030 123456", "email": "Anna@Example.com"}
    assert found["a document with indexed values"] == Content(data, "DE", indexed)
    assert found["an empty document"] == Content({}, None)
    assert found["great numbers"] == Content({"n": 2**64 + 1}, None)
    for vector in vectors("sealed-record"):
        plaintext = bytes.fromhex(vector["expect"].get("plaintext", ""))
        assert not plaintext or Content.from_bytes(plaintext).to_bytes() == plaintext


def test_stored_key(
    vectors: Vectors, decoder: ModuleType, decided: Decided, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: Counter[str] = Counter()
    for vector in vectors("stored-key"):
        counts[check_seal(vector, StoredKeyContext(**vector["context"]), decoder, monkeypatch)] += 1
        assert decoder.stored_key_context(vector["context"]).hex() == vector["associated_data"]
    decided("stored-key", dict(counts))
    assert counts == {"opened and sealed": 4, "seal-format": 2, "seal": 7}


def test_wrapped_data_key(vectors: Vectors, decoder: ModuleType, decided: Decided) -> None:
    counts: Counter[str] = Counter()
    for vector in vectors("wrapped-dek"):
        kek, wrapped = bytes.fromhex(vector["kek"]), bytes.fromhex(vector["wrapped"])
        if "error" in vector["expect"]:
            with pytest.raises(InvalidUnwrap):
                unwrap_key(wrapped, kek=SecretBytes(kek))
            # The function takes keys of 16 to 64 bytes; a data key is one of 32.
            with pytest.raises(decoder.FormatError, match=r"^wrapped-dek$"):
                decoder.unwrap_kwp(wrapped, kek)
            counts["rejected"] += 1
            continue
        dek = bytes.fromhex(vector["expect"]["dek"])
        assert unwrap_key(wrapped, kek=SecretBytes(kek)).reveal() == dek
        assert decoder.unwrap_kwp(wrapped, kek) == dek
        assert wrap_key(SecretBytes(dek), kek=SecretBytes(kek)) == wrapped
        counts["opened and wrapped"] += 1
    decided("wrapped-dek", dict(counts))
    assert counts == {"opened and wrapped": 4, "rejected": 9}


def test_row_mac(vectors: Vectors, decoder: ModuleType, decided: Decided) -> None:
    counts: Counter[str] = Counter()
    tables = set()
    for vector in vectors("row-mac"):
        keys = {int(number): bytes.fromhex(key) for number, key in vector["mac_keys"].items()}
        authenticator = RowAuthenticator({number: SecretBytes(key) for number, key in keys.items()}, 1)
        columns = {name: value_of(value) for name, value in vector["columns"].items()}
        mac = bytes.fromhex(vector["mac"])
        row = ROW_TYPES[vector["table"]](**columns, mac=mac)
        assert row_message(row).hex() == vector["message"], vector["name"]
        assert decoder.row_message(vector["table"], columns).hex() == vector["message"], vector["name"]
        key = keys.get(columns["mac_key_id"])
        is_genuine = key is not None and decoder.row_mac(key, vector["table"], columns) == mac
        if "error" in vector["expect"]:
            with pytest.raises(IntegrityError) as refused:
                authenticator.check(row)
            assert refused.value.finding == vector["expect"]["error"]
            assert not is_genuine, vector["name"]
            counts["refused"] += 1
        else:
            authenticator.check(row)
            assert authenticator.sign(dataclasses.replace(row, mac=b"", mac_key_id=0)) == row
            assert is_genuine, vector["name"]
            tables.add(vector["table"])
            counts["genuine"] += 1
    decided("row-mac", dict(counts))
    assert counts == {"genuine": 19, "refused": 12}
    assert tables == ROW_TYPES.keys()


def test_blind_index(vectors: Vectors, decoder: ModuleType, decided: Decided) -> None:
    tags = set()
    for vector in vectors("blind-index"):
        names = {name: vector[name] for name in ("tenant", "collection", "field", "normaliser")}
        key, expected = bytes.fromhex(vector["index_key"]), bytes.fromhex(vector["expect"]["tag"])
        name, index = IndexedFieldName(**names), BlindIndex(1, SecretBytes(key))
        for _ in range(2):  # the second time with the derived key kept
            assert index.tag(name, vector["normalised"]) == expected, vector["name"]
        assert decoder.index_tag(key, **names, value=vector["normalised"]) == expected, vector["name"]
        info = decoder.encode_fields("strongroom/blind-index/v1", *names.values())
        assert decoder.hkdf_expand_32(key, info).hex() == vector["field_key"]
        tags.add(expected)
    decided("blind-index", len(tags))
    assert len(tags) == 12


def event_of(stated: dict[str, Any]) -> AuditEvent:
    read: dict[str, Callable[[Any], Any]] = {
        "action": Action,
        "result": Result,
        "token": bytes.fromhex,
        "document_sha256": bytes.fromhex,
        "fields": tuple,
    }
    return AuditEvent(**{name: read.get(name, lambda same: same)(value) for name, value in stated.items()})


def origin_of(stated: dict[str, Any]) -> EntryOrigin:
    hints = get_type_hints(EntryOrigin)
    return EntryOrigin(
        **{name: bytes.fromhex(value) if hints[name] is bytes else value for name, value in stated.items()}
    )


def test_audit_entry(vectors: Vectors, decoder: ModuleType, decided: Decided) -> None:
    frozen = vectors("audit-entry")
    for vector in frozen:
        event, origin = event_of(vector["event"]), origin_of(vector["origin"])
        expected = vector["expect"]["canonical"].encode()
        assert canonical_entry(event, origin) == expected, vector["name"]
        assert hashlib.sha256(expected).hexdigest() == vector["expect"]["sha256"]
        assert read_entry(expected) == (dataclasses.replace(event, time=origin.time), origin)
        assert decoder.canonical_json(json.loads(expected)) == expected, vector["name"]
    decided("audit-entry", len(frozen))
    assert len(frozen) == 5


def test_credential(vectors: Vectors, decoder: ModuleType, decided: Decided) -> None:
    counts: Counter[str] = Counter()
    for vector in vectors("credential"):
        text = vector["credential"]
        is_good = "sha256" in vector["expect"]
        assert credentials.is_well_formed(text) is is_good, vector["name"]
        if is_good:
            assert credentials.secret_sha256(text).hex() == vector["expect"]["sha256"]
            assert decoder.credential_sha256(text).hex() == vector["expect"]["sha256"]
        counts["well-formed" if is_good else vector["expect"]["error"]] += 1
    decided("credential", dict(counts))
    assert counts == {"well-formed": 3, "malformed": 10}
