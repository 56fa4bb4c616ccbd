"""A small DICOMweb server whose answers a test can replace."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pydicom

BOUNDARY = "next-part"


@dataclass
class Answer:
    """Status, headers and body of an answer; a body may be sent in pieces."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | Iterator[bytes] = b""


def as_json(value: Any, **headers: str) -> Answer:
    return Answer(
        200, {"Content-Type": "application/dicom+json"} | headers, json.dumps(value).encode()
    )


def multipart(*objects: bytes, closing: bytes = b"--") -> Answer:
    parts = b"".join(
        b"\r\n--%s\r\nContent-Type: application/dicom\r\n\r\n%s" % (BOUNDARY.encode(), one)
        for one in objects
    )
    kind = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
    return Answer(200, {"Content-Type": kind}, parts[2:] + b"\r\n--next-part" + closing)


class Server:
    """Studies by UID, each with its files by instance, and the paths that were asked for."""

    def __init__(self, url: str):
        self.url = url
        self.studies: dict[str, dict[str, Path]] = {}
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.answer: Callable[[str, dict[str, str]], Answer | None] = lambda *_: None

    def add(self, path: Path) -> None:
        header = pydicom.dcmread(path, stop_before_pixels=True)
        study = self.studies.setdefault(header.StudyInstanceUID, {})
        study[header.SOPInstanceUID] = path

    def retrieved(self) -> list[str]:
        """Instances that were sent."""
        return [path.rpartition("/")[2] for path in self.asked if "/instances/" in path]

    def reply(self, path: str, query: dict[str, str]) -> Answer:
        self.asked.append(path)
        parts = path.strip("/").split("/")
        if (answer := self.answer(path, query)) is not None:
            return answer
        if parts == ["studies"]:
            found = [self.listed(uid) for uid in self.studies]
            page = found[int(query.get("offset", 0)) :][: int(query["limit"])]
            return as_json(page) if page else Answer(204)
        if parts[2:] == ["metadata"]:
            headers = [pydicom.dcmread(p) for p in self.studies[parts[1]].values()]
            for header in headers:
                del header[0x7FE00010]
            return as_json([header.to_json_dict() for header in headers])
        return multipart(self.studies[parts[1]][parts[5]].read_bytes())

    def listed(self, uid: str) -> dict[str, Any]:
        header = pydicom.dcmread(next(iter(self.studies[uid].values())), stop_before_pixels=True)
        return {
            "0020000D": {"vr": "UI", "Value": [uid]},
            "00080020": {"vr": "DA", "Value": [header.get("StudyDate", "20200101")]},
            "00080061": {"vr": "CS", "Value": [header.Modality]},
            "00100020": {"vr": "LO", "Value": [header.PatientID]},
            "00201208": {"vr": "IS", "Value": [len(self.studies[uid])]},
        }


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Start a server on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            place = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(place.query).items()}
            server.headers.append(dict(self.headers))
            answer = server.reply(place.path.removeprefix("/dicom-web"), query)
            self.send_response(answer.status)
            whole = isinstance(answer.body, bytes)
            length = {"Content-Length": str(len(answer.body))} if whole else {}
            for name, value in (length | answer.headers).items():
                self.send_header(name, value)
            self.end_headers()
            for piece in [answer.body] if whole else answer.body:
                self.wfile.write(piece)

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass  # a client that hangs up, which is what some tests want

    http = Quiet(("127.0.0.1", 0), Handler)
    if tls:
        http.socket = tls.wrap_socket(http.socket, server_side=True)
    server = Server(f"http{'s' * bool(tls)}://localhost:{http.server_port}/dicom-web")
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
