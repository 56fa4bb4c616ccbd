"""A task that this site does not do."""

from mama.exchange.codes import ErrorCode


class RefusedError(Exception):
    """This site does not do what was asked; `code` says why, and `detail` says more to the site alone."""

    def __init__(self, code: ErrorCode, detail: str = ""):
        super().__init__(detail or code.sentence)
        self.code = code
