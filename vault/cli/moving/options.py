"""What somebody who imports has asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from vault.cli.moving.columns import Wishes
from vault.cli.moving.state import Plan

Form: TypeAlias = Literal["csv", "jsonl"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """The options of an import, checked one by one.

    Attributes:
        source: the file; None for standard input.
        key: a column, or a path with dots in JSON, whose value goes into the file of tokens.
        tokens: where line and token of each stored record go.
        report: where the refused lines go.
        state: where it is written down how far it is; None to keep nothing.
        batch: the most records in a request.
        parallel: how many requests are on their way at once.
        is_resend: send batches again of which the server may have forgotten that it had them.
    """

    source: Path | None
    form: Form
    collection: str
    mapping: Mapping[str, str] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()
    is_envelope: bool = False
    region: str | None = None
    encoding: str = "utf-8"
    delimiter: str = ","
    key: str | None = None
    tokens: Path | None = None
    report: Path
    state: Path | None = None
    is_dry_run: bool = False
    batch: int = 500
    parallel: int = 2
    is_resend: bool = False

    @property
    def wishes(self) -> Wishes:
        """What concerns the columns of a table."""
        return Wishes(
            mapping=self.mapping,
            dropped=self.dropped,
            key=self.key,
            region=self.region,
            is_envelope=self.is_envelope,
        )

    def plan(self, server: str) -> Plan:
        """Return what must be the same in every run of one import."""
        return Plan(
            server,
            self.collection,
            {
                "format": self.form,
                "map": dict(self.mapping),
                "drop": sorted(self.dropped),
                "envelope": self.is_envelope,
                "region": self.region,
                "encoding": self.encoding,
                "delimiter": self.delimiter,
                "key": self.key,
                "tokens": None if self.tokens is None else str(self.tokens.absolute()),
                "refused": str(self.report.absolute()),
                "batch": self.batch,
            },
        )
