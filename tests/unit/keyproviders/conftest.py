"""Fixtures of the key providers' tests."""

from tests.forked_child import exit_code_of_child

__all__ = ["exit_code_of_child"]
