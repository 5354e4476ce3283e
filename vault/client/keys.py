"""The calls about keys: what depends on each, what is kept in memory, and rotation."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vault.client.arguments import given
from vault.client.key_results import Job, KeyExposure, Keyring
from vault.client.session import Session, read_answer

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}", re.ASCII)


class KeyCalls:
    """What a client can see of keys, and ask for."""

    _session: Session

    def keyrings(self) -> tuple[Keyring, ...]:
        """Return the keyrings with their versions and what depends on each."""
        return tuple(
            self._session.pages(
                lambda cursor: self._session.send("GET", "/v1/keyrings", query=given(cursor=cursor)),
                Keyring.read,
            )
        )

    def exposure(self) -> KeyExposure:
        """Return how many unwrapped data keys all processes keep in memory, and until when."""
        answer = self._session.send("GET", "/v1/keyrings")
        return read_answer(answer, lambda document: KeyExposure.read(document["exposure"]), answer.document)

    def rotate(self, keyring: str) -> Job:
        """Ask for the next version of a keyring; who asks again meanwhile hears of the same job.

        Raises:
            NotFound: there is no such keyring.
        """
        answer = self._session.send("POST", f"/v1/keyrings/{_checked(keyring)}/rotate")
        return read_answer(answer, Job.read, answer.document)

    def job(self, job_id: str) -> Job:
        """Return what became of a job.

        Raises:
            NotFound: there is no such job.
        """
        answer = self._session.send("GET", f"/v1/jobs/{_checked(job_id)}")
        return read_answer(answer, Job.read, answer.document)

    def jobs(self) -> Iterator[Job]:
        """Walk through the jobs, the newest last."""
        return self._session.pages(
            lambda cursor: self._session.send("GET", "/v1/jobs", query=given(cursor=cursor)), Job.read
        )


def _checked(name: str) -> str:
    # Whatever is passed by mistake must not end in a URL, and so in logs.
    if not _NAME.fullmatch(name):
        raise ValueError("names of keyrings and jobs are made of a-z, 0-9, _ and -")
    return name
