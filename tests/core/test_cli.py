"""Commands end with one line for an error that the user can fix."""

from __future__ import annotations

import pytest

from affect_jax.core.cli import handle_cli_errors
from affect_jax.core.errors import UserError


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("--out is missing"), "affect_jax: --out is missing\n"),
        (OSError(13, "Permission denied", "runs/x"), "affect_jax: runs/x: Permission denied\n"),
    ],
)
def test_error_of_the_user_is_one_line_and_code_2(capsys, error, line):
    @handle_cli_errors
    def main(argv=None) -> int:
        raise error

    assert main([]) == 2
    assert capsys.readouterr().err == line


def test_other_error_keeps_its_traceback():
    @handle_cli_errors
    def main(argv=None) -> int:
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        main([])
