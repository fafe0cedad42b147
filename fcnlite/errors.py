"""The one exception for a user's mistake: bad files, options or shapes, told in a single clear line."""


class InputError(ValueError):
    """Something the user gave is wrong; the message names it, says where, and what to do."""
