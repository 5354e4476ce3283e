"""What a batch is made of: each operation as one plain value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from vault.audit.events import Action
from vault.core.errors import VaultError
from vault.core.reading import Lookup
from vault.core.record_drafts import Change, NewDocument
from vault.core.record_rules import IfMatch
from vault.core.releases import View


@dataclass(frozen=True, slots=True)
class CreateOperation:
    """Store a new record."""

    action: ClassVar[Action] = Action.RECORD_CREATE
    token: ClassVar[None] = None
    document: NewDocument


@dataclass(frozen=True, slots=True)
class UpdateOperation:
    """Replace or patch a record."""

    action: ClassVar[Action] = Action.RECORD_UPDATE
    token: bytes
    change: Change
    if_match: IfMatch | None


@dataclass(frozen=True, slots=True)
class EraseOperation:
    """Erase a record."""

    action: ClassVar[Action] = Action.RECORD_ERASE
    token: bytes
    if_match: IfMatch | None


@dataclass(frozen=True, slots=True)
class GetOperation:
    """Read a record."""

    action: ClassVar[Action] = Action.RECORD_READ
    token: bytes
    generation: int | None
    view: View


@dataclass(frozen=True, slots=True)
class LookupOperation:
    """Find records by value."""

    action: ClassVar[Action] = Action.RECORD_LOOKUP
    token: ClassVar[None] = None
    lookup: Lookup


@dataclass(frozen=True, slots=True)
class UnreadableOperation:
    """Something that is no operation, with the reason; it takes its place in the answer."""

    action: Action
    token: bytes | None
    error: VaultError


Operation: TypeAlias = (
    CreateOperation | UpdateOperation | EraseOperation | GetOperation | LookupOperation | UnreadableOperation
)
