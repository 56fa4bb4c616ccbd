"""A real Orthanc with its DICOMweb plugin, on loopback, with storage of its own."""

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ORTHANC = shutil.which("Orthanc")
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
MISSING = None if ORTHANC and PLUGIN.exists() else "needs Debian's orthanc and orthanc-dicomweb"
USER, PASSWORD = "puller", "s3cret-word"


class Orthanc:
    """A running Orthanc."""

    def __init__(self, port: int):
        self.root = f"http://127.0.0.1:{port}"
        self.url = f"{self.root}/dicom-web"

    def call(self, path: str, data: bytes | None = None, method: str | None = None) -> bytes:
        request = urllib.request.Request(f"{self.root}{path}", data, method=method)
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPBasicAuthHandler(self._password())
        )
        with opener.open(request, timeout=30) as answer:
            return answer.read()

    def store(self, *paths: Path) -> None:
        for path in paths:
            self.call("/instances", path.read_bytes())

    def _password(self) -> urllib.request.HTTPPasswordMgrWithPriorAuth:
        manager = urllib.request.HTTPPasswordMgrWithPriorAuth()
        manager.add_password(None, self.root, USER, PASSWORD, is_authenticated=True)
        return manager


@contextmanager
def running(folder: Path) -> Iterator[Orthanc]:
    """Start one; stop it at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder.mkdir()
    configuration = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [str(PLUGIN)],
        "HttpPort": port,
        "HttpBindAddresses": ["127.0.0.1"],
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: PASSWORD},
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [str(ORTHANC), str(folder / "orthanc.json")], stdout=log, stderr=log
        )
    try:
        orthanc = Orthanc(port)
        for _ in range(300):
            try:
                orthanc.call("/system")
                break
            except (urllib.error.URLError, ConnectionError):
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.1)
        yield orthanc
    finally:
        process.terminate()
        process.wait(30)
