"""Errors a user can cause; each gives its cause, place and remedy on one line."""


class MamaError(Exception):
    """Root of all expected errors; command lines print it as one line, without a traceback.

    Args:
        what: description of the problem, without patient data.
        where: file, key or site concerned.
        fix: suggested remedy.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", fix: str = ""):
        self.what, self.where, self.fix = what, where, fix
        super().__init__(what, where, fix)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        remedy = f". {self.fix}" if self.fix else ""
        return f"{place}{self.what}{remedy}"


class ConfigError(MamaError):
    """An experiment or site file that is invalid."""

    exit_code = 2


class DataError(MamaError):
    """Missing or unreadable images, reports or labels."""

    exit_code = 3


class NoStudiesError(DataError):
    """A dataset without training studies."""


class EmptyReportsError(DataError):
    """A dataset without any report text."""


class ModelError(MamaError):
    """A model that cannot be built, loaded or combined."""

    exit_code = 4


class TrainingError(MamaError):
    """Training that cannot continue."""

    exit_code = 7


class FilesError(MamaError):
    """A file or folder that cannot be read or written."""

    exit_code = 8


class ProtocolError(MamaError):
    """A message or update from outside that violates the protocol and is refused."""

    exit_code = 5


class VersionError(ProtocolError):
    """A message of an unsupported protocol version."""


class QuorumError(MamaError):
    """A round with fewer valid answers than the quorum."""

    exit_code = 6


class StorageError(MamaError):
    """A full disk; earlier writes are intact."""

    exit_code = 9


class PrivacyError(MamaError):
    """Private training whose privacy bound would not hold."""

    exit_code = 11


class BudgetError(PrivacyError):
    """A step that exceeds the site's privacy budget."""


class IntegrityError(MamaError):
    """A record that was modified after it was written."""

    exit_code = 10


class SignatureError(ProtocolError):
    """A signature that does not verify under the claimed signer's key."""


class ServiceError(MamaError):
    """A federation service that is not running, is unreachable or refuses a request."""

    exit_code = 12
