"""The one exception for a user's mistake: bad files, options or shapes, told in a single clear line."""


class InputError(ValueError):
    """Something the user gave is wrong; the message names it, says where, and what to do.

    Attributes
    ----------
    layer : str
        The layer it is about, for whoever can say in which line of which file that layer stands.
    """

    def __init__(self, message: str = "", layer: str = ""):
        super().__init__(message)
        self.layer = layer
