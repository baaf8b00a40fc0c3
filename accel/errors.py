"""The one error a user is meant to see: a single line that says what is wrong, where, and what would be right."""


class UserError(Exception):
    """Bad input. The command line prints the message on one line and exits with code 2; no traceback."""
