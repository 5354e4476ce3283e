"""What a background job says of its batches: a line in the log, and numbers."""

from __future__ import annotations

import time

from vault.telemetry.logs import event_logger
from vault.telemetry.metrics import Metrics

_log = event_logger("strongroom.jobs")


class JobMeter:
    """Notes each batch of each job.

    Args:
        metrics: the numbers of this process.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def batch(self, job: str, rows_done: int, rows_failed: int, seconds: float) -> None:
        """Note one batch: ``erase-expired`` took 0.2 seconds for 500 rows, and 2 more failed.

        Args:
            job: what the job is called: a word of our own code, never a value.
            rows_done: rows that it finished.
            rows_failed: rows that it could not finish; a batch with none counts as a success.
            seconds: how long it took.
        """
        self._metrics.job_batch(job, rows_done, rows_failed, seconds)
        if not rows_failed:
            self._metrics.job_succeeded(job, time.time())
        if not (rows_done or rows_failed):
            return  # a job that finds nothing to do would fill the log with it
        note = _log.warning if rows_failed else _log.info
        note("job-batch", job=job, rows=rows_done, failed=rows_failed, seconds=round(seconds, 3))

    def nothing_waits(self, job: str) -> None:
        """Note that a job has looked and found nothing to do: that is a success, too."""
        self._metrics.job_succeeded(job, time.time())
