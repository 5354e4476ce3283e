"""Errors of the transit provider leave it alone: without the frames and causes that know keys, tokens and secret ids."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from keyproviders.errors import KeyProviderError

__all__ = ["bare", "without_frames"]

P = ParamSpec("P")
R = TypeVar("R")


def bare(error: KeyProviderError) -> KeyProviderError:
    """Take the traceback and what led to it from an error, so that it can be kept."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def without_frames(function: Callable[P, R]) -> Callable[P, R]:
    """Let no error take the frames below the function along.

    Their locals hold requests, and these hold data keys, the token and the secret id. A reporter of errors that shows
    locals would show them.
    """

    @functools.wraps(function)
    def call(*arguments: P.args, **options: P.kwargs) -> R:
        try:
            return function(*arguments, **options)
        except KeyProviderError as error:
            failure = bare(error)
        raise failure

    return call
