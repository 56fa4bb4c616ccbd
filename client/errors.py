"""The error of a task that this site refuses."""

from mama.exchange.codes import ErrorCode


class RefusedError(Exception):
    """The site refuses a task: `code` goes to the coordinator, `detail` stays in the site's log."""

    def __init__(self, code: ErrorCode, detail: str = ""):
        super().__init__(detail or code.sentence)
        self.code = code
