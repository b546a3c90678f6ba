"""Flags of the commands that are no experiments: what is wrong with them fits in one line."""

from __future__ import annotations

import argparse
from typing import NoReturn

from affect_jax.errors import UserError


class Parser(argparse.ArgumentParser):
    """Raises `UserError` for what argparse would print with the whole usage."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; --help lists the flags")
