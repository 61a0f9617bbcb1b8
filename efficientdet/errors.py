"""Errors that a user can mend; commands print them as one line, without a traceback."""


class UserError(Exception):
    """Bad data or a bad state: says what was read, what was expected, where, and what to do."""

    exit_code = 1


class UsageError(UserError):
    """A bad flag or hyper-parameter."""

    exit_code = 2
