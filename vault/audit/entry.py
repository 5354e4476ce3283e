"""Canonical audit entry v1: the exact bytes that are stored, MACed and later hashed into the tree.

Frozen. Entries are proof for years; a change is ``"v": 2`` with its own writer and reader, and old entries stay
as they are. The bytes are JSON in the canonical form of RFC 8785 (sorted names, no white space), so an auditor
can read them with any tool and hash exactly what is stored. Members that do not apply are absent.

Source: RFC 8785 (JCS), docs/formats/audit-entry.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from vault.audit.events import Action, AuditEvent, Result

ENTRY_VERSION = 1


@dataclass(frozen=True, slots=True)
class EntryOrigin:
    """Where and when an entry was made.

    Attributes:
        entry_id: 16 random bytes.
        boot_id: 16 random bytes of the process that wrote it.
        sequence: counts upwards within that process, so its entries have an order that no clock decides.
        mac_key_id: the MAC key that signs the row.
        time: UTC microseconds.
    """

    entry_id: bytes
    boot_id: bytes
    sequence: int
    mac_key_id: int
    time: int


def canonical_entry(event: AuditEvent, origin: EntryOrigin) -> bytes:
    """Encode an event as canonical entry v1."""
    members: dict[str, Any] = {
        "v": ENTRY_VERSION,
        "id": origin.entry_id.hex(),
        "boot": origin.boot_id.hex(),
        "seq": origin.sequence,
        "mac_key": origin.mac_key_id,
        "time": origin.time,
        "tenant": event.tenant,
        "action": str(event.action),
        "result": str(event.result),
        "principal": event.principal,
        "credential": event.credential,
        "reason": event.reason,
        "collection": event.collection,
        "token": event.token.hex() if event.token else None,
        "generation": event.generation,
        "seal_epoch": event.seal_epoch,
        "document_sha256": event.document_sha256.hex() if event.document_sha256 else None,
        "fields": list(event.fields) or None,
        "lookup_field": event.lookup_field,
        "reveal": event.reveal,
        "purpose": event.purpose,
        "request_id": event.request_id,
        "address": event.address,
        "count": event.count,
    }
    present = {name: value for name, value in members.items() if value is not None}
    # For text, integers below 2^53 and ASCII names, orjson's sorted output is RFC 8785; a test compares them.
    return orjson.dumps(present, option=orjson.OPT_SORT_KEYS)


def read_entry(canonical: bytes) -> tuple[AuditEvent, EntryOrigin]:
    """Read canonical entry v1 back.

    Raises:
        ValueError: these are not the bytes of an entry of this version.
    """
    try:
        members = orjson.loads(canonical)
        if members["v"] != ENTRY_VERSION:
            raise ValueError(f"audit entry version {members['v']} is newer than this release")
        origin = EntryOrigin(
            entry_id=bytes.fromhex(members["id"]),
            boot_id=bytes.fromhex(members["boot"]),
            sequence=members["seq"],
            mac_key_id=members["mac_key"],
            time=members["time"],
        )
        return _event(members), origin
    except (KeyError, TypeError) as error:
        raise ValueError("not an audit entry") from error


def _event(members: dict[str, Any]) -> AuditEvent:
    return AuditEvent(
        action=Action(members["action"]),
        result=Result(members["result"]),
        tenant=members["tenant"],
        principal=members.get("principal"),
        credential=members.get("credential"),
        reason=members.get("reason"),
        collection=members.get("collection"),
        token=_optional_bytes(members.get("token")),
        generation=members.get("generation"),
        seal_epoch=members.get("seal_epoch"),
        document_sha256=_optional_bytes(members.get("document_sha256")),
        fields=tuple(members.get("fields", ())),
        lookup_field=members.get("lookup_field"),
        reveal=members.get("reveal"),
        purpose=members.get("purpose"),
        request_id=members.get("request_id"),
        address=members.get("address"),
        count=members.get("count"),
        time=members["time"],
    )


def _optional_bytes(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text)
