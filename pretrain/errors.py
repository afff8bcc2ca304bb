"""Errors that are shown to a user as a few lines, without a traceback."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can mend: the message names what was found and the way out."""

    exit_code = 2
    """Of a program that ends with it."""


class ConfigError(UserError):
    """The configuration cannot be run as it stands."""
