"""From a source to entries: once to check everything that can be checked before the first request, once to send."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from vault.cli.failure import Failure
from vault.cli.moving.batches import Digest
from vault.cli.moving.columns import table_shape
from vault.cli.moving.documents import json_shape
from vault.cli.moving.entries import Entry, Shape, entry_of
from vault.cli.moving.lines import Line, physical_lines
from vault.cli.moving.options import ImportOptions
from vault.cli.moving.patience import StoppedError
from vault.cli.moving.rows import Broken, Row, csv_rows, json_rows
from vault.cli.moving.source import Fingerprint, Source, is_same_beginning
from vault.cli.moving.state import Leg
from vault.client import CollectionInfo
from vault.core.stop_signal import StopSignal


class Reading:
    """Reads a source as the options say.

    Args:
        source: the bytes.
        options: format, encoding and columns.
        collection: whose schema says what cells become.

    Attributes:
        is_open_ended: the last line that was read had no line feed, so it may have been half a line.
    """

    def __init__(self, source: Source, options: ImportOptions, collection: CollectionInfo) -> None:
        self._source = source
        self._options = options
        self._collection = collection
        self.is_open_ended = False

    def check(self, stop: StopSignal) -> Leg:
        """Read a file to its present end and return what there is to import.

        If it grows meanwhile, a last line that has no end yet is left for the next time.

        Args:
            stop: set when somebody wants to stop.

        Raises:
            StoppedError: it was set.
            Failure: bytes of another encoding, broken gzip, a quote without end, a header that does not fit.
        """
        size = self._source.size()
        prints: list[Fingerprint] = []
        try:
            rows, _ = self._rows_and_shape(self._source.checked_chunks(size, prints))
            records = 0
            for _ in rows:
                records += 1
                if stop.is_set():
                    raise StoppedError
        except Failure as failure:
            raise self._nothing_sent(failure, size) from None
        if records and self.is_open_ended and self._source.size() > size:
            records -= 1
        (fingerprint,) = prints
        return Leg(fingerprint.size, fingerprint.sha256, records)

    def _nothing_sent(self, failure: Failure, size: int) -> Failure:
        grows = " The file is growing just now: it may not be complete." if self._source.size() > size else ""
        return Failure(
            f"{failure.message} Nothing was sent.{grows}",
            next_step=failure.next_step,
            details=failure.details,
            exit_code=failure.exit_code,
        )

    def check_same(self, leg: Leg) -> None:
        """Make sure that a file still begins with what an earlier run has read.

        Raises:
            Failure: it does not.
        """
        if leg.size is not None and not is_same_beginning(self._source, Fingerprint(leg.size, leg.sha256)):
            raise Failure(
                f"{self._source.name} is not the file that this import was begun with: its first "
                f"{leg.size:,} bytes are others.",
                next_step="Go on with the file as it was. To import another file, name another state file: "
                "--state OTHER.",
            )

    def grown_by(self, leg: Leg) -> int:
        """Return by how many bytes a file is longer than what is imported of it."""
        return 0 if leg.size is None else self._source.size() - leg.size

    def entries(
        self, leg: Leg, *, skip: int, digest: Digest, expected: str
    ) -> Iterator[tuple[object, Entry]]:
        """Yield what comes after the rows that are done, up to the end of the leg.

        Args:
            leg: how far to read.
            skip: how many rows are done.
            digest: takes in the rows that are skipped.
            expected: its text after them.

        Raises:
            Failure: a stream that is another one, or broken in a way that cannot be told earlier.
        """
        rows, shape = self._rows_and_shape(self._source.chunks(leg.size))
        skipped = 0
        for row in islice(rows, skip):
            digest.add(row.content)
            skipped += 1
        if skipped < skip or (expected and digest.text() != expected):
            raise Failure(
                f"What comes from {self._source.name} is not what this import was begun with.",
                next_step="Send the same again from its beginning, or begin another import: --state OTHER.",
            )
        left = None if leg.records is None else leg.records - skip
        yield from ((row.content, entry_of(row, shape)) for row in islice(rows, left))

    def _rows_and_shape(self, chunks: Iterable[bytes]) -> tuple[Iterator[Row], Shape]:
        options = self._options
        lines = self._watched(physical_lines(chunks, encoding=options.encoding))
        if options.form == "jsonl":
            return json_rows(lines), json_shape(
                is_envelope=options.is_envelope, region=options.region, key=options.key
            )
        rows = csv_rows(lines, delimiter=options.delimiter)
        header = next(rows, None)
        if header is None:
            raise Failure(f"{self._source.name} is empty: a table begins with a line of column names.")
        if isinstance(header.content, Broken | str):
            raise Failure("The header is broken: its quotes do not fit, or it is too long.")
        shape = table_shape(
            header.content,
            self._collection.schema,
            is_strict=self._collection.settings.strict,
            wishes=options.wishes,
        )
        return rows, shape

    def _watched(self, lines: Iterable[Line]) -> Iterator[Line]:
        self.is_open_ended = False
        for line in lines:
            self.is_open_ended = not line.text.endswith("\n") and not line.is_too_long
            yield line
