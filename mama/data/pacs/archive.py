"""Connection to an archive by DICOMweb: one request at a time, bounded answers, retries."""

import base64
import io
import logging
import os
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import requests
from dicomweb_client import DICOMwebClient

from mama.config.ingest import PacsConfig
from mama.data.dicom.bounds import MOST_BYTES
from mama.data.dicom.reasons import ImageError
from mama.data.pacs.faults import ArchiveError, RequestError, StudyError, in_words, refuse_status
from mama.data.pacs.multipart import MalformedError, TruncatedError, only_part
from mama.errors import ConfigError
from mama.system.logs import printable

Result = TypeVar("Result")

MOST_JSON = 2**25  # bytes of an answer to a query, or of a study's metadata
TIMEOUTS = (10, 120)  # seconds to connect, and to wait for the next bytes
LONGEST = 3600.0  # seconds of an answer, however slowly it comes
WAITS = (1, 4, 16, 64)  # seconds before each further try
JSON = ("application/dicom+json", "application/json")
FIELDS = ["ModalitiesInStudy", "NumberOfStudyRelatedInstances", "PatientID", "StudyDate"]
_PIECE = 2**20

# Their log lines hold addresses with patients' identifiers.
for _name in ("dicomweb_client", "retrying", "urllib3"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


class Archive:
    """An archive; requests that failed for a passing cause are repeated.

    Attributes:
        incomplete: the last answer to a query says that there are further results.

    Raises:
        ConfigError: the credentials or the certificate of the authority cannot be read.
    """

    def __init__(self, config: PacsConfig):
        self.url = config.url.rstrip("/")
        self.incomplete = False
        self._session = requests.Session()
        # Neither a proxy, which is for the coordinator, nor a password of ~/.netrc.
        self._session.trust_env = False
        self._session.verify = _readable(config.ca) if config.ca else True
        self._session.auth = _Authorisation(config.credentials)
        self._session.headers["Accept-Encoding"] = "identity"
        self._client = DICOMwebClient(
            self.url, session=self._session, timeout=TIMEOUTS, callback=self._receive
        )
        self._client.set_http_retry_params(retry=False)  # `_tried` heeds Retry-After

    def search(self, filters: dict[str, str], limit: int, offset: int) -> list[Any]:
        """Return a page of the studies that match, as DICOM JSON, which is not checked.

        Raises:
            ArchiveError: the archive cannot be reached, refuses, or is not DICOMweb.
        """
        found = self._tried(
            lambda: self._client.search_for_studies(
                limit=limit, offset=offset, fields=FIELDS, search_filters=filters
            ),
            ArchiveError,
        )
        return _as_list(found)

    def metadata(self, study: str) -> list[Any]:
        """Return the headers of a study's instances, as DICOM JSON, which is not checked.

        Raises:
            StudyError: the archive does not give them.
            ArchiveError: as `search`.
        """
        return _as_list(
            self._tried(lambda: self._client.retrieve_study_metadata(study), StudyError)
        )

    def save(self, study: str, series: str, instance: str, path: Path) -> None:
        """Write an instance to a file, as it is stored in the archive and in pieces; sync it.

        Raises:
            ImageError: it is larger than any mammogram.
            StudyError: the archive does not give it whole.
            ArchiveError: as `search`.
        """
        # Not by dicomweb-client, which holds an instance in memory and encodes it again.
        url = f"{self.url}/studies/{study}/series/{series}/instances/{instance}"
        accept = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}

        def act() -> None:
            with (
                self._session.get(url, headers=accept, stream=True, timeout=TIMEOUTS) as response,
                open(path, "wb") as file,
            ):
                for piece in _object(response):
                    if file.tell() + len(piece) > MOST_BYTES:
                        raise ImageError("too-large", path)
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())

        self._tried(act, StudyError)

    def _tried(self, act: Callable[[], Result], kind: type[ArchiveError]) -> Result:
        for wait in (*WAITS, None):
            try:
                with in_words():
                    return act()
            except RequestError as fault:
                if wait is None or not fault.passing:
                    error = ArchiveError if fault.whole else kind
                    raise error(fault.what, where=self.url, fix=fault.fix) from None
                time.sleep(max(wait, fault.after))
        raise AssertionError  # the last wait is None

    def _receive(self, response: requests.Response, **options: Any) -> None:
        """Check an answer before requests reads it; JSON is read here, up to a bound."""
        try:
            refuse_status(response)
            if not options.get("stream"):
                response.raw = io.BytesIO(_bounded_json(response))
                self.incomplete = "Warning" in response.headers
        except BaseException:
            response.close()
            raise


class _Authorisation(requests.auth.AuthBase):
    """Credentials of a file, added to every request."""

    def __init__(self, path: Path | None):
        self._header = _header(path) if path else None

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        # dicomweb-client sets it without the port.
        request.headers.pop("Host", None)
        if self._header:
            request.headers["Authorization"] = self._header
        return request


def _header(path: Path) -> str:
    try:
        mode, line = path.stat().st_mode & 0o777, path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot be read ({type(error).__name__})", where=str(path)) from None
    if mode & 0o077:
        fix = f"Run `chmod 600 {path}`"
        raise ConfigError(f"is readable by others ({mode:o})", where=str(path), fix=fix)
    if line.startswith("Bearer ") and line.isascii() and line.isprintable():
        return line
    if line.find(":") < 1 or not line.isprintable():
        fix = "Write one line, user:password, or Bearer and a token"
        raise ConfigError("holds no credentials", where=str(path), fix=fix)
    return f"Basic {base64.b64encode(line.encode()).decode()}"


def _readable(ca: Path) -> str:
    try:
        ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError):
        fix = "Give the PEM file of the authority that signed the archive's certificate"
        raise ConfigError("is not a certificate", where=str(ca), fix=fix) from None
    return str(ca)


def _as_list(found: Any) -> list[Any]:
    return found if isinstance(found, list) else []


def _pieces(response: requests.Response) -> Iterator[bytes]:
    end = time.monotonic() + LONGEST
    while piece := response.raw.read1(_PIECE, decode_content=True):
        yield piece
        if time.monotonic() > end:
            raise RequestError("answers too slowly")


def _media_type(response: requests.Response) -> tuple[str, dict[str, str]]:
    """Return the media type of an answer and its parameters."""
    kind, *rest = response.headers.get("Content-Type", "").split(";")
    pairs = (part.partition("=") for part in rest)
    return kind.strip().lower(), {k.strip().lower(): v.strip().strip('"') for k, _, v in pairs}


def _bounded_json(response: requests.Response) -> bytes:
    body, kind = bytearray(), _media_type(response)[0]
    if response.status_code != 204 and kind not in JSON:
        shown = printable(kind, 60) or "no content type"
        fix = "Check data.pacs.url: it ends before /studies"
        raise RequestError(f"is not DICOMweb: it answers {shown} instead of JSON", fix, whole=True)
    for piece in _pieces(response):
        body += piece
        if len(body) > MOST_JSON:
            raise RequestError(f"an answer has more than {MOST_JSON:,} bytes")
    return bytes(body)


def _object(response: requests.Response) -> Iterator[bytes]:
    """Yield the only DICOM object of an answer in pieces."""
    kind, options = _media_type(response)
    if kind == "multipart/related" and (boundary := options.get("boundary")):
        yield from only_part(_pieces(response), boundary.encode())
    elif kind == "application/dicom":  # some archives send it without multipart
        if not any(name in response.headers for name in ("Content-Length", "Transfer-Encoding")):
            raise TruncatedError  # its end would not be seen
        yield from _pieces(response)
    else:
        raise MalformedError
