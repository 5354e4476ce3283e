"""Record types: a JSON Schema compiled once, that validates documents and says what is indexed and masked.

Two libraries share the work. ``jsonschema`` checks a schema against the meta-schema when it is defined;
``jsonschema-rs`` validates documents, offline and with a linear-time regex engine.

Numbers, measured with jsonschema-rs 0.60.3 and kept by tests: integers beyond 2^64 and Decimals are exact in the
schema (``maximum``, ``multipleOf``, ``enum``...) and in the document, so nothing is converted. ``jsonschema`` 4.26
takes ``1.0`` for no integer when it comes as Decimal, so its check sees such numbers as int.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from itertools import islice
from types import MappingProxyType
from typing import Any

import jsonschema
import jsonschema_rs

from vault.core.documents import Document, check_limits, dump_json
from vault.core.errors import UnprocessableError, Violation
from vault.core.normalise import NormaliseError, Normaliser, normaliser
from vault.core.pointers import OTHER_NAME, json_pointer
from vault.core.schema_errors import violation_of
from vault.core.schema_rules import broken_rules, declared_names, subschemas

MAX_SCHEMA_BYTES = 65_536
"""The longest schema, in bytes of compact JSON (64 KiB)."""

MAX_INDEXED_FIELDS = 16
"""Indexed fields of one collection: each costs a row and a tag on every write."""

MAX_VIOLATIONS = 50
"""How many violations one answer lists."""

MAX_PATTERN_MEMORY_BYTES = 2_097_152
"""Memory of one compiled pattern (2 MiB), and of its lazy automaton: ``a{1000}{1000}`` is eleven characters."""

MAX_PATTERN_CHARACTERS = 4_096
"""The longest string that a ``pattern`` is tried on; a longer one breaks the rule ``maxLength``."""


class MaskKind(StrEnum):
    """What a reader without the right to plain values sees of a field (``x-mask``)."""

    EMAIL = "email"
    PHONE = "phone"
    LAST4 = "last4"
    ALL = "all"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class IndexedField:
    """A top-level property that can be looked up.

    Attributes:
        name: the property.
        unique: at most one record of the collection has a value.
        normaliser: makes the form that the index hashes.
    """

    name: str
    unique: bool
    normaliser: Normaliser


@dataclass(frozen=True, slots=True)
class RecordSchema:
    """One version of a record type. Build it with :meth:`compile`.

    Attributes:
        indexed: the indexed fields, in the order of the schema.
        masks: top-level fields that declare ``x-mask``.
        declared: names of the top-level properties.
    """

    indexed: tuple[IndexedField, ...]
    masks: Mapping[str, MaskKind]
    declared: frozenset[str]
    _declared_anywhere: frozenset[str]
    _validator: jsonschema_rs.Draft202012Validator

    @classmethod
    def compile(cls, schema: Any) -> RecordSchema:
        """Check a schema against every rule of ours and make it ready for use.

        Args:
            schema: JSON Schema draft 2020-12 as ``documents.parse_json`` reads it; not kept.

        Raises:
            UnprocessableError: code ``invalid-schema``; violations carry JSON pointers into the schema.

        Security: nothing is fetched, from the network or from files; patterns run in linear time.
        """
        if not isinstance(schema, dict):
            raise _invalid(Violation("", "type", "A schema is a JSON object."))
        _check_size(schema)
        _check_meta_schema(schema)
        violations = broken_rules(schema)
        if violations:
            raise _invalid(*violations[:MAX_VIOLATIONS])
        fields = {
            name: field for name, field in schema.get("properties", {}).items() if isinstance(field, dict)
        }
        indexed = tuple(
            IndexedField(name, field["x-index"] == "unique", normaliser(field.get("x-normalize", "text")))
            for name, field in fields.items()
            if "x-index" in field
        )
        if len(indexed) > MAX_INDEXED_FIELDS:
            raise _invalid(
                Violation("/properties", "indexed-fields", f"At most {MAX_INDEXED_FIELDS} are indexed.")
            )
        masks = {name: MaskKind(field["x-mask"]) for name, field in fields.items() if "x-mask" in field}
        return cls(
            indexed=indexed,
            masks=MappingProxyType(masks),
            declared=frozenset(schema.get("properties", ())),
            _declared_anywhere=declared_names(schema),
            _validator=_compiled(schema),
        )

    def validate(self, document: Document, *, strict: bool) -> None:
        """Accept a document, or say everything that is wrong with it, without a value or an undeclared name.

        Args:
            document: within the limits of ``documents.check_limits``.
            strict: refuse top-level fields that the schema does not declare under ``properties``.

        Raises:
            UnprocessableError: code ``schema-violation``, at most 50 violations; each code is the keyword broken
                (``undeclared-field`` for strictness).
        """
        violations: list[Violation] = []
        if strict and not document.keys() <= self.declared:
            detail = "This collection takes declared fields only."
            violations.append(Violation(json_pointer((OTHER_NAME,)), "undeclared-field", detail))
        if not self._validator.is_valid(document):
            errors = islice(self._validator.iter_errors(document), MAX_VIOLATIONS)
            violations.extend(violation_of(error, self._declared_anywhere) for error in errors)
        if violations:
            # Names that become *other can make violations equal.
            raise _violated([*dict.fromkeys(violations)][:MAX_VIOLATIONS])


def normalised_index_values(
    schema: RecordSchema, document: Document, *, region: str | None
) -> dict[str, str]:
    """Return the normalised value of every indexed field that the document has.

    Args:
        schema: the record type.
        document: valid by it. Fields that are absent or null are not indexed.
        region: for telephone numbers without ``+``: the request's region, or the collection's.

    Raises:
        UnprocessableError: code ``schema-violation``, with one violation (``x-normalize``) for each field that
            cannot be normalised; the details do not hold the values.
    """
    values = {}
    violations = []
    for field in schema.indexed:
        value = document.get(field.name)
        if value is None:
            continue
        try:
            values[field.name] = field.normaliser.normalise(value, region=region)
        except NormaliseError as error:
            violations.append(Violation(json_pointer((field.name,)), "x-normalize", error.detail))
    if violations:
        raise _violated(violations)
    return values


def _violated(violations: list[Violation]) -> UnprocessableError:
    return UnprocessableError(
        "The document does not fit the collection's schema.",
        code="schema-violation",
        violations=violations,
    )


def _invalid(*violations: Violation) -> UnprocessableError:
    return UnprocessableError("The schema cannot be used.", code="invalid-schema", violations=violations)


def _check_size(schema: dict[str, Any]) -> None:
    try:
        check_limits(schema)
    except UnprocessableError as error:
        raise _invalid(*error.violations) from error
    if len(dump_json(schema)) > MAX_SCHEMA_BYTES:
        raise _invalid(
            Violation("", "schema-size", f"A schema has at most {MAX_SCHEMA_BYTES} bytes of JSON.")
        )


def _check_meta_schema(schema: dict[str, Any]) -> None:
    try:
        # An empty format checker: the default one would run patterns through Python's backtracking "re", which also
        # knows another dialect. The engine that will run them judges them in _compiled.
        jsonschema.Draft202012Validator.check_schema(
            _whole_as_int(schema), jsonschema.FormatChecker(formats=())
        )
    except jsonschema.SchemaError as error:
        detail = f"JSON Schema draft 2020-12 does not allow this ({error.validator})."
        raise _invalid(Violation(json_pointer(error.absolute_path), "meta-schema", detail)) from None


def _whole_as_int(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _whole_as_int(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_whole_as_int(element) for element in value]
    if isinstance(value, Decimal) and value == value.to_integral_value():
        return int(value)  # at most 1,000 digits: check_limits has been here
    return value


def _with_patterns_guarded(schema: dict[str, Any]) -> dict[str, Any]:
    """A copy in which a pattern is tried on strings of at most :data:`MAX_PATTERN_CHARACTERS`, longer ones fail.

    A linear engine is not a fast one: ``[ab]*a[ab]{400}c`` needs seconds for a mebibyte, and a document's author may
    be anyone.
    """
    copy: dict[str, Any] = deepcopy(schema)
    limit = {"maxLength": MAX_PATTERN_CHARACTERS}
    for _, subschema in list(subschemas(copy)):
        if isinstance(subschema, dict) and "pattern" in subschema:
            guarded = {"if": limit, "then": {"pattern": subschema.pop("pattern")}, "else": limit}
            subschema["allOf"] = [*subschema.get("allOf", []), guarded]
    return copy


def _compiled(schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    # Once as it was sent, so that what is wrong is named where its author wrote it.
    _compiled_as_is(schema)
    return _compiled_as_is(_with_patterns_guarded(schema))


def _compiled_as_is(schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    try:
        return jsonschema_rs.Draft202012Validator(
            schema,
            offline=True,  # the default fetches http and file references
            validate_formats=True,
            pattern_options=jsonschema_rs.RegexOptions(
                size_limit=MAX_PATTERN_MEMORY_BYTES,
                dfa_size_limit=MAX_PATTERN_MEMORY_BYTES,
            ),
        )
    except jsonschema_rs.ValidationError as error:
        where = json_pointer(error.instance_path)
        if error.kind.name in {"format", "pattern"}:
            detail = (
                "The pattern is not valid, uses look-around or back-references, or is too big when compiled; "
                "limit lengths with maxLength, not with large repeat counts."
            )
            raise _invalid(Violation(where, "pattern", detail)) from None
        raise _invalid(Violation(where, "compile", "The schema cannot be compiled.")) from None
