"""Column types that each engine renders in its own way. What stands in an upgrade is rendered so for ever.

SQLite has TEXT, BLOB and INTEGER for all of them. PostgreSQL has text and bytea. MariaDB and MySQL cut what is too long
for a BLOB or compare without regard to case unless each column says otherwise, and take only columns of a known width
into an index: hence short types for what is looked up by, and long ones for the rest.
"""

from __future__ import annotations

from typing import Any

from peewee import SQL, AutoField, BlobField, Context, Field, Node, NodeList

NAME_CHARACTERS = 128
"""The longest name: five of them fit into one index of InnoDB."""
KEY_BYTES = 64
"""The longest value of a :class:`KeyBytesField`."""


class IdField(AutoField):
    """The integer id of a row, never used twice in the life of a table."""

    def ddl(self, ctx: Context) -> Any:
        """Render the column; SQLite has to be asked not to use the id of a deleted row again."""
        column = super().ddl(ctx)
        return NodeList((column, SQL("AUTOINCREMENT"))) if ctx.state.autoincrement else column


class NameField(Field):
    """Text that is looked up by: exact, case and trailing blanks included."""

    field_type = "NAME"


class KeyBytesField(BlobField):
    """At most 64 bytes that are looked up by: tokens, tags, hashes, ids; and MACs."""

    field_type = "KEY_BYTES"


class RowLock(Node):
    """The end of a SELECT that keeps what it found as it is until the transaction ends.

    Args:
        is_shared: others may hold it at the same time.
    """

    def __init__(self, *, is_shared: bool) -> None:
        self._name = "share_lock" if is_shared else "update_lock"

    def __sql__(self, ctx: Context) -> Context:
        """Render what the engine calls it: nothing where there is one writer at a time."""
        return ctx.literal(getattr(ctx.state, self._name) or "")


def locking(query: Any, *, is_shared: bool = False) -> Any:
    """A SELECT that locks the rows that it finds, on engines where transactions run side by side."""
    query = query.clone()
    query._for_update = RowLock(is_shared=is_shared)  # noqa: SLF001  # peewee's own spelling differs between engines
    return query
