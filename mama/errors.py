"""The errors a person can cause. Each says what happened, where, and what to do, in one line."""


class MamaError(Exception):
    """Root of all expected errors; command lines print it as one line, without a traceback.

    Args:
        what: what happened, without patient data.
        where: file, key or site.
        fix: what the reader can do about it.
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
    """An experiment or site file that cannot be used as it is."""

    exit_code = 2


class DataError(MamaError):
    """Images, reports or labels that are missing or unreadable."""

    exit_code = 3


class NoStudiesError(DataError):
    """A dataset without a study to train on."""


class EmptyReportsError(DataError):
    """A dataset in which no report has a sentence."""


class ModelError(MamaError):
    """A model that cannot be built, loaded or combined."""

    exit_code = 4


class TrainingError(MamaError):
    """Training that cannot go on."""

    exit_code = 7


class FilesError(MamaError):
    """A file or folder that cannot be read or written."""

    exit_code = 8


class ProtocolError(MamaError):
    """A message or update that does not follow the protocol; it comes from outside and is refused."""

    exit_code = 5


class VersionError(ProtocolError):
    """A message of a protocol version that is not spoken here."""


class QuorumError(MamaError):
    """Too few sites answered for a round to count."""

    exit_code = 6


class StorageError(MamaError):
    """There is no room to write; what was written before is whole."""

    exit_code = 9


class PrivacyError(MamaError):
    """Private training whose bound would not hold."""

    exit_code = 11


class BudgetError(PrivacyError):
    """A step that the site's privacy budget does not allow."""


class IntegrityError(MamaError):
    """A record that was changed after it was written."""

    exit_code = 10


class SignatureError(ProtocolError):
    """Something signed that was not signed by whom it claims."""


class ServiceError(MamaError):
    """A service of the federation that does not run, cannot be reached or refuses."""

    exit_code = 12
