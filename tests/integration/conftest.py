"""Real servers for the tests in this folder."""

from tests.forked_child import exit_code_of_child
from tests.servers.openbao import openbao, own_openbao, transit

__all__ = ["exit_code_of_child", "openbao", "own_openbao", "transit"]
