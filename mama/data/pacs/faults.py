"""Faults of an archive in words: no credentials, no patient data, and whether to try again."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from time import time

import requests
import urllib3

from mama.data.pacs.multipart import MalformedError, TruncatedError
from mama.errors import ServiceError

PASSING = (408, 429, 500, 502, 503, 504)
LONGEST_WAIT = 300.0  # seconds that an archive may ask to wait


class ArchiveError(ServiceError):
    """An archive that cannot be reached, refuses, or is not DICOMweb."""


class StudyError(ArchiveError):
    """A study that cannot be pulled, while others may be."""


class RequestError(Exception):
    """One failed request.

    Args:
        what: description, without patient data.
        fix: suggested remedy.
        passing: it may succeed if it is tried again.
        whole: it concerns the whole archive, not the study that was asked for.
        after: seconds that the archive asks to wait.
    """

    def __init__(
        self,
        what: str,
        fix: str = "",
        *,
        passing: bool = False,
        whole: bool = False,
        after: float = 0,
    ):
        self.what, self.fix, self.passing, self.whole = what, fix, passing, whole
        self.after = min(after, LONGEST_WAIT)
        super().__init__(what)


@contextmanager
def in_words() -> Iterator[None]:
    """Turn the exceptions of requests and urllib3, which quote addresses, into a `RequestError`."""
    try:
        yield
    except requests.exceptions.SSLError as error:
        raise RequestError(
            f"the TLS connection failed ({_reason(error)})",
            "Give the certificate of its authority as data.pacs.ca, and the name in it as url",
            whole=True,
        ) from None
    except (requests.exceptions.ConnectTimeout, requests.exceptions.ReadTimeout):
        raise RequestError("does not answer in time", passing=True) from None
    except requests.exceptions.ConnectionError as error:
        if isinstance(next(iter(error.args), None), urllib3.exceptions.ProtocolError):
            raise RequestError("closes the connection without an answer", passing=True) from None
        fix = "Check data.pacs.url, the network and the archive"
        raise RequestError("cannot be reached", fix, passing=True, whole=True) from None
    except (urllib3.exceptions.HTTPError, TruncatedError):
        raise RequestError("a transfer was cut short", passing=True) from None
    except MalformedError:
        raise RequestError("an answer is not the one object that was asked for") from None
    except (requests.exceptions.JSONDecodeError, RecursionError):
        raise RequestError("an answer is not JSON") from None
    except requests.exceptions.RequestException as error:
        raise RequestError(f"a request failed ({type(error).__name__})") from None
    except ValueError:  # such as a number of 5,000 digits
        raise RequestError("an answer cannot be read") from None


def refuse_status(response: requests.Response) -> None:
    """Raise a `RequestError` unless an answer is a success."""
    code = response.status_code
    if code in (401, 407):
        raise RequestError(
            f"refuses the credentials ({code})", "Check data.pacs.credentials", whole=True
        )
    if code in PASSING:
        raise RequestError(f"answers {code}", passing=True, after=_seconds(response))
    if 300 <= code < 400:
        fix = "Give the address that it names as data.pacs.url"
        raise RequestError(f"redirects to another address ({code})", fix, whole=True)
    if code in (403, 404, 410, 501):
        fix = "Check data.pacs.url, and that this user may query and retrieve"
        raise RequestError(f"does not offer this ({code})", fix)
    if code >= 400 or code < 200:
        raise RequestError(f"answers {code}")


def _seconds(response: requests.Response) -> float:
    """Return the seconds of the header Retry-After, which may also be a date."""
    value = response.headers.get("Retry-After", "")
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _reason(error: BaseException) -> str:
    """Return OpenSSL's reason, which urllib3 wraps several times."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, ssl.SSLCertVerificationError):
            return link.verify_message
        link = link.__context__
    return "no common version, or no TLS"
