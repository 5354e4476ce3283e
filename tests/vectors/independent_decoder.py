"""A second reader of everything that is stored, written from docs/formats alone: the formats are what the pages say.

Imports nothing of the product. From ``cryptography`` only the bare AES block cipher and GCM mode; HMAC, HKDF and
SHA-256 are the standard library's. Given the SQLite file and the key file it opens a whole vault.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sqlite3
import struct
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

Value = str | bytes | int | None


class FormatError(Exception):
    """The bytes are not of the documented format, or not genuine. Holds the named error."""


# docs/formats/encoding.md
def encode_fields(label: str, *fields: str | bytes | int) -> bytes:
    encoded = b""
    for field in (label, *fields):
        if isinstance(field, int):
            content = struct.pack(">Q", field)
        else:
            content = field.encode("utf-8") if isinstance(field, str) else field
        encoded += struct.pack(">I", len(content)) + content
    return encoded


# docs/formats/sealed-record.md
def record_context(row: Mapping[str, Any]) -> bytes:
    return encode_fields(
        "strongroom/sealed-record/v1",
        1,
        row["tenant"],
        row["collection"],
        row["token"],
        row["generation"],
        row["seal_epoch"],
        row["schema_version"],
    )


def open_sealed(sealed: bytes, key: bytes, associated_data: bytes) -> bytes:
    if len(sealed) < 30 or sealed[0] != 1 or sealed[1] != 1:
        raise FormatError("seal-format")
    nonce, ciphertext, tag = sealed[2:14], sealed[14:-16], sealed[-16:]
    decryptor = Cipher(algorithms.AES256(key), modes.GCM(nonce, tag)).decryptor()
    decryptor.authenticate_additional_data(associated_data)
    plaintext = decryptor.update(ciphertext)
    try:
        return plaintext + decryptor.finalize()
    except InvalidTag:
        raise FormatError("seal") from None


def unwrap_kwp(blob: bytes, kek: bytes) -> bytes:
    """RFC 5649 section 4.2, for keys of more than 8 bytes."""
    if len(blob) % 8 or len(blob) < 24:
        raise FormatError("wrapped-dek")
    decryptor = Cipher(algorithms.AES256(kek), modes.ECB()).decryptor()  # noqa: S305  # the block that KWP is made of
    semiblocks = [blob[at : at + 8] for at in range(0, len(blob), 8)]
    start, rest = semiblocks[0], semiblocks[1:]
    for round_number in range(5, -1, -1):
        for index in range(len(rest), 0, -1):
            step = round_number * len(rest) + index
            mixed = (int.from_bytes(start, "big") ^ step).to_bytes(8, "big")
            block = decryptor.update(mixed + rest[index - 1])
            start, rest[index - 1] = block[:8], block[8:]
    padded, length = b"".join(rest), int.from_bytes(start[4:], "big")
    if start[:4] != b"\xa6\x59\x59\xa6" or not 0 <= len(padded) - length < 8 or any(padded[length:]):
        raise FormatError("wrapped-dek")
    return padded[:length]


# docs/formats/stored-key.md
def stored_key_context(row: Mapping[str, Any]) -> bytes:
    return encode_fields(
        "strongroom/stored-key/v1",
        1,
        row["purpose"],
        row["tenant"],
        row["keyring"],
        row["key_id"],
        row["version"],
    )


# docs/formats/row-mac.md
def row_message(table: str, columns: Mapping[str, Value]) -> bytes:
    fields: list[str | bytes | int] = [table]
    for name in sorted(columns):
        value = columns[name]
        if name in {"id", "mac"} or value is None:
            continue
        if isinstance(value, int):
            fields += [name, "i", value + 2**63]
        else:
            fields += [name, "t" if isinstance(value, str) else "b", value]
    return encode_fields("strongroom/row-mac/v1", *fields)


def row_mac(key: bytes, table: str, columns: Mapping[str, Value]) -> bytes:
    return hmac.new(key, row_message(table, columns), hashlib.sha256).digest()


# docs/formats/blind-index.md
def hkdf_expand_32(key: bytes, info: bytes) -> bytes:
    """RFC 5869 section 2.3, one block of SHA-256: T(1)."""
    return hmac.new(key, info + b"\x01", hashlib.sha256).digest()


def index_tag(key: bytes, *, tenant: str, collection: str, field: str, normaliser: str, value: str) -> bytes:
    info = encode_fields("strongroom/blind-index/v1", tenant, collection, field, normaliser)
    return hmac.new(hkdf_expand_32(key, info), value.encode("utf-8"), hashlib.sha256).digest()


# Normalisers for plain values only: an ASCII address, a number that is E.164 already, letters without odd folds.
NORMALISE = {
    "email/1": lambda value: value.strip().lower(),
    "phone/1": lambda value: value,
    "login/1": lambda value: unicodedata.normalize("NFKC", value.strip()).casefold(),
    "text/1": lambda value: unicodedata.normalize("NFC", value.strip()),
}


# docs/formats/audit-entry.md
def canonical_json(members: Mapping[str, Any]) -> bytes:
    """RFC 8785 for text, integers and lists of text under ASCII names."""
    return json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


# docs/formats/credential.md
def credential_sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode("ascii")).digest()


class VaultFile:
    """A vault's SQLite file opened with its key file.

    Attributes:
        mac_checks: how many row MACs were found right, by table.
    """

    MACED = (
        "record",
        "record_history",
        "index_entry",
        "collection",
        "collection_schema",
        "keyring",
        "key_version",
        "stored_key",
        "principal",
        "credential",
        "audit_entry",
    )

    def __init__(self, database: Path, key_file: Path) -> None:
        with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            self.rows = {table: list(_rows(connection, table)) for table in self.MACED}
        self._keks = {
            (name, version["version"]): base64.b64decode(version["material"])
            for name, key in json.loads(key_file.read_text("ascii"))["keys"].items()
            for version in key["versions"]
        }
        self._versions = {
            (row["tenant"], row["keyring"], row["version"]): row for row in self.rows["key_version"]
        }
        self.keys = {
            row["key_id"]: (row["purpose"], self._stored_key(row)) for row in self.rows["stored_key"]
        }
        self.mac_checks = dict.fromkeys(self.MACED, 0)

    def data_key(self, row: Mapping[str, Any]) -> bytes:
        """Unwrap the data key of a record, history or stored_key row."""
        version = self._versions[row["tenant"], row["keyring"], row["key_version"]]
        if version["algorithm"] != "A256KWP":
            raise FormatError("wrapped-dek")
        return unwrap_kwp(
            row["wrapped_dek"], self._keks[version["provider_key"], version["provider_version"]]
        )

    def _stored_key(self, row: Mapping[str, Any]) -> bytes:
        return open_sealed(row["sealed_key"], self.data_key(row), stored_key_context(row))

    def check_macs(self) -> None:
        """Check the MAC of every row of every table."""
        for table, rows in self.rows.items():
            for row in rows:
                purpose, key = self.keys[row["mac_key_id"]]
                if purpose != "mac" or row_mac(key, table, row) != row["mac"]:
                    raise FormatError(f"row-mac: {table} {row['id']}")
                self.mac_checks[table] += 1

    def document(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Open a record or history row; returns the sealed JSON object."""
        opened = open_sealed(row["sealed_document"], self.data_key(row), record_context(row))
        content: dict[str, Any] = json.loads(opened, parse_float=Decimal)
        return content

    def expected_index(self) -> set[tuple[Any, ...]]:
        """Every index row that the opened records call for."""
        ((index_key_id, index_key),) = [
            (number, key) for number, (purpose, key) in self.keys.items() if purpose == "index"
        ]
        schemas = {
            (row["tenant"], row["collection"], row["version"]): json.loads(row["schema_json"])
            for row in self.rows["collection_schema"]
        }
        expected: set[tuple[Any, ...]] = set()
        for row in self.rows["record"]:
            if row["erased_at"] is not None:
                continue
            place = (row["tenant"], row["collection"])
            content = self.document(row)
            data = content["data"]
            for field, rules in schemas[(*place, row["schema_version"])].get("properties", {}).items():
                if "x-index" not in rules or data.get(field) is None:
                    continue
                normaliser = f"{rules.get('x-normalize', 'text')}/1"
                tag = index_tag(
                    index_key,
                    tenant=row["tenant"],
                    collection=row["collection"],
                    field=field,
                    normaliser=normaliser,
                    value=content["index"][field][normaliser],
                )
                assert content["index"][field][normaliser] == NORMALISE[normaliser](data[field]), field
                slot = b"" if rules["x-index"] == "unique" else row["token"]
                expected.add((*place, field, index_key_id, normaliser, tag, slot, row["token"]))
        return expected

    def stored_index(self) -> set[tuple[Any, ...]]:
        """Every index row that is there."""
        names = ("tenant", "collection", "field", "index_key_id", "normaliser", "tag", "slot", "token")
        return {tuple(row[name] for name in names) for row in self.rows["index_entry"]}

    def entries(self) -> Iterator[dict[str, Any]]:
        """Every audit entry, after checking that its bytes are canonical and its columns say the same."""
        for row in self.rows["audit_entry"]:
            members = json.loads(row["canonical"])
            said = {
                "id": row["entry_id"].hex(),
                "time": row["time"],
                "tenant": row["tenant"],
                "action": row["action"],
                "result": row["result"],
                "principal": row["principal"],
                "reason": row["reason"],
                "collection": row["collection"],
                "token": row["token"].hex() if row["token"] else None,
                "purpose": row["purpose"],
            }
            if canonical_json(members) != row["canonical"] or members["v"] != 1:
                raise FormatError(f"audit-entry: {row['id']}")
            if any(members.get(name) != value for name, value in said.items()):
                raise FormatError(f"audit-entry: {row['id']}")
            yield members


def _rows(connection: sqlite3.Connection, table: str) -> Iterator[dict[str, Any]]:
    cursor = connection.execute(f'SELECT * FROM "{table}" ORDER BY id')  # noqa: S608  # names from the list above
    names = [column[0] for column in cursor.description]
    for values in cursor:
        yield dict(zip(names, values, strict=True))
