"""A task that this site does not do."""

from mama.exchange.codes import ErrorCode


class RefusedError(Exception):
    """This site does not do what was asked; `code` says why."""

    def __init__(self, code: ErrorCode):
        super().__init__(code.sentence)
        self.code = code
