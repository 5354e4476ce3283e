"""Collections: record types with their settings, and how they may change."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from vault.audit.events import Action, Result
from vault.core.blind_index import IndexedFieldName
from vault.core.documents import Document, dump_json, parse_json
from vault.core.errors import (
    CollectionNotFoundError,
    ConflictError,
    IntegrityError,
    SchemaConflictError,
    UnprocessableError,
    Violation,
)
from vault.core.keyrings import Keyrings
from vault.core.normalise import is_region
from vault.core.policy import Caller, authorize
from vault.core.ports import Clock, CollectionStore, StaleWriteError
from vault.core.rows import CollectionRow, CollectionSchemaRow
from vault.core.schema import IndexedField, RecordSchema
from vault.core.schema_change import breaking_changes
from vault.core.trail import AuditTrail, event_of

MAX_HISTORY = 1_000
"""How many earlier generations a collection can keep."""
DEFAULT_KEYRING = "default"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Settings:
    """How a collection treats its records.

    Attributes:
        strict: refuse top-level fields that the schema does not declare.
        history: how many earlier generations are kept, 0 to :data:`MAX_HISTORY`.
        purpose_required: every access states a ``Strongroom-Purpose``.
        if_match_required: every change states the ETag that it is based on.
        default_region: ISO 3166 code for telephone numbers without ``+``.
    """

    strict: bool = False
    history: int = 0
    purpose_required: bool = False
    if_match_required: bool = False
    default_region: str | None = None

    @classmethod
    def parse(cls, members: Any) -> Settings:
        """Read settings from JSON; members left out take their defaults.

        Raises:
            UnprocessableError: ``invalid-settings``, with the pointer of each wrong member.
        """
        if not isinstance(members, dict):
            raise _invalid_settings(Violation("/settings", "type", "settings are an object"))
        known = {field.name for field in fields(cls)}
        wrong = []
        if not members.keys() <= known:
            wrong.append(Violation("/settings/*other", "unknown", "settings are " + ", ".join(sorted(known))))
        wrong += [
            Violation(f"/settings/{name}", "type", "true or false")
            for name in ("strict", "purpose_required", "if_match_required")
            if not isinstance(members.get(name, False), bool)
        ]
        history = members.get("history", 0)
        if not isinstance(history, int) or isinstance(history, bool) or not 0 <= history <= MAX_HISTORY:
            wrong.append(Violation("/settings/history", "range", f"a whole number from 0 to {MAX_HISTORY:,}"))
        region = members.get("default_region")
        if region is not None and not (isinstance(region, str) and is_region(region)):
            wrong.append(Violation("/settings/default_region", "region", "a two-letter region such as DE"))
        if wrong:
            raise _invalid_settings(*wrong)
        return cls(**members)


def _invalid_settings(*violations: Violation) -> UnprocessableError:
    return UnprocessableError("The settings are not valid.", code="invalid-settings", violations=violations)


@dataclass(frozen=True, slots=True)
class Definition:
    """One version of a collection, ready to use.

    Attributes:
        row: the collection's row.
        version: the version of this definition; the row may already name a newer one.
        source: the JSON Schema as it was sent.
        schema: the same, compiled.
        settings: how records are treated.
    """

    row: CollectionRow
    version: int
    source: Document
    schema: RecordSchema
    settings: Settings

    def index_name(self, field: IndexedField) -> IndexedFieldName:
        """What tags of this field are made for."""
        return IndexedFieldName(
            tenant=self.row.tenant, collection=self.row.name, field=field.name, normaliser=field.normaliser.id
        )

    def loggable(self, names: Any) -> tuple[str, ...]:
        """Field names as the log may hold them: those that the schema declares, others as ``*other``."""
        declared = self.schema.declared
        return tuple(sorted({name if name in declared else "*other" for name in names}))


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a collection is to be."""

    name: str
    schema_json: bytes
    settings: Settings
    keyring: str


class Collections:
    """Defines collections and finds their definitions.

    Args:
        store: where definitions live.
        keyrings: signs and checks their rows.
        trail: where definitions are audited.
        clock: tells the time.
        asked: is told ``hit`` or ``miss`` when a definition is wanted in its compiled form.
    """

    def __init__(
        self,
        store: CollectionStore,
        keyrings: Keyrings,
        trail: AuditTrail,
        clock: Clock,
        asked: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._keyrings = keyrings
        self._trail = trail
        self._clock = clock
        self._asked = asked
        self._compiled: dict[tuple[str, str, int], tuple[Document, RecordSchema, Settings]] = {}

    def current(self, tenant: str, name: str) -> Definition:
        """The definition that new writes follow.

        Raises:
            CollectionNotFoundError: there is none of this name.
            IntegrityError: a stored row is not what the vault wrote.
        """
        row = self._checked(tenant, name)
        return self._definition(row, row.schema_version)

    def exists(self, tenant: str, name: str) -> bool:
        """Whether there is a collection of this name; what a log may hold, for any other name is free text."""
        return _NAME.fullmatch(name) is not None and self._store.get(tenant, name) is not None

    def version(self, current: Definition, version: int) -> Definition:
        """The definition that a record names as its own."""
        return current if version == current.version else self._definition(current.row, version)

    def show(self, caller: Caller, name: str) -> Definition:
        """The current definition, for a caller to read.

        Raises:
            CollectionNotFoundError: there is none of this name.
        """
        authorize(caller, Action.COLLECTION_READ)
        return self.current(caller.tenant, name)

    def show_all(self, caller: Caller) -> list[Definition]:
        """All current definitions by name."""
        authorize(caller, Action.COLLECTION_READ)
        return [self.current(caller.tenant, row.name) for row in self._store.list_all(caller.tenant)]

    def define(
        self, caller: Caller, name: str, source: Any, settings: Settings, *, keyring: str | None = None
    ) -> tuple[Definition, bool]:
        """Create a collection or give it a new definition.

        Args:
            caller: who defines it.
            name: the collection's.
            source: the JSON Schema.
            settings: how records are treated.
            keyring: which keyring seals its records; None leaves it as it is, and takes for a new collection the one
                that has the tenant's name, or else ``default``.

        Returns:
            The definition now in force, and whether the collection is new.

        Raises:
            UnprocessableError: the name or the schema breaks a rule, or there is no such keyring.
            SchemaConflictError: records exist and the change is not additive.
            ConflictError: records exist, and another keyring is to seal them.
        """
        authorize(caller, Action.COLLECTION_DEFINE)
        if _NAME.fullmatch(name) is None:
            raise UnprocessableError(
                "A collection's name matches [a-z][a-z0-9_]{0,62}.", code="collection-name", violations=[]
            )
        compiled = RecordSchema.compile(source)
        schema_json = dump_json(source)
        try:
            previous = self.current(caller.tenant, name)
        except CollectionNotFoundError:
            previous = None
        keyring = self._keyring_for(caller.tenant, keyring, previous)
        if previous is not None and (
            dump_json(previous.source),
            previous.settings,
            previous.row.keyring,
        ) == (schema_json, settings, keyring):
            return previous, False
        wanted = _Wanted(name, schema_json, settings, keyring)
        row = self._store_definition(caller, wanted, previous)
        return Definition(row, row.schema_version, source, compiled, settings), previous is None

    def _keyring_for(self, tenant: str, wanted: str | None, previous: Definition | None) -> str:
        if wanted is not None:
            if not self._keyrings.has(tenant, wanted):
                raise UnprocessableError(
                    "There is no keyring of this name; `strongroom keys init NAME` makes one on the vault's host.",
                    code="unknown-keyring",
                    violations=[Violation("/keyring", "unknown")],
                )
            return wanted
        if previous is not None:
            return previous.row.keyring
        return tenant if self._keyrings.has(tenant, tenant) else DEFAULT_KEYRING

    def _store_definition(
        self, caller: Caller, wanted: _Wanted, previous: Definition | None
    ) -> CollectionRow:
        now, name = self._clock(), wanted.name
        breaking = breaking_changes(previous.source, parse_json(wanted.schema_json)) if previous else []
        authenticator = self._keyrings.authenticator(caller.tenant)
        row = (
            replace(
                previous.row,
                schema_version=previous.version + 1,
                keyring=wanted.keyring,
                revision=previous.row.revision + 1,
                updated_at=now,
            )
            if previous
            else CollectionRow(
                tenant=caller.tenant,
                name=name,
                schema_version=1,
                keyring=wanted.keyring,
                revision=1,
                created_at=now,
                updated_at=now,
            )
        )
        row = authenticator.sign(row)
        schema_row = CollectionSchemaRow(
            tenant=caller.tenant,
            collection=name,
            version=row.schema_version,
            schema_json=wanted.schema_json.decode(),
            settings_json=dump_json(asdict(wanted.settings)).decode(),
            created_at=now,
        )
        try:
            self._store.define(
                row,
                authenticator.sign(schema_row),
                previous=previous.row if previous else None,
                entry=self._trail.entry(
                    event_of(caller, Action.COLLECTION_DEFINE, Result.DONE, collection=name)
                ),
                only_if_empty=bool(breaking),
            )
        except StaleWriteError as stale:
            if stale.cause == "keyring":
                raise ConflictError(
                    "The collection holds records, which its keyring seals. Until they can be migrated, only an empty "
                    "collection can get another one.",
                    code="keyring-in-use",
                ) from stale
            if stale.cause == "schema":
                raise SchemaConflictError(
                    "The collection holds records, and this change would not fit them. Until rotation can carry "
                    "it, only additive changes are possible: new optional fields without an index.",
                    violations=breaking,
                ) from stale
            raise ConflictError(
                "The collection was redefined at the same moment; read it and try again."
            ) from stale
        return row

    def _checked(self, tenant: str, name: str) -> CollectionRow:
        row = self._store.get(tenant, name) if _NAME.fullmatch(name) else None
        if row is None:
            raise CollectionNotFoundError(
                "There is no collection of this name; GET /v1/collections lists them."
            )
        self._keyrings.authenticator(tenant).check(row)
        return row

    def _definition(self, row: CollectionRow, version: int) -> Definition:
        # A version never changes once written, so its compiled form can be kept for ever.
        key = (row.tenant, row.name, version)
        compiled = self._compiled.get(key)
        self._asked("miss" if compiled is None else "hit")
        if compiled is None:
            compiled = self._compiled[key] = self._compile(row, version)
        source, schema, settings = compiled
        return Definition(row, version, source, schema, settings)

    def _compile(self, row: CollectionRow, version: int) -> tuple[Document, RecordSchema, Settings]:
        stored = self._store.get_schema(row.tenant, row.name, version)
        if stored is None:
            raise IntegrityError("schema-missing", where=f"{row.where()} version {version}")
        self._keyrings.authenticator(row.tenant).check(stored)
        source = parse_json(stored.schema_json.encode())
        return source, RecordSchema.compile(source), Settings.parse(parse_json(stored.settings_json.encode()))
