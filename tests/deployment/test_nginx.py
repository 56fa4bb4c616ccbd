"""Through the reverse proxy that deploy/ ships a site works, and from outside nothing else does."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from client.identity.tls import context_for
from client.service.status import ServiceFolder, Status, read_status
from client.site.config import load_site
from mama.system.processes import free_port
from server.federation.authority import site_certificate
from sim.engines.deployment import LocalDeployment
from tests.deployment.conftest import Federation
from tests.waiting import PATIENCE_S, wait_for

NGINX = shutil.which("nginx")
CONFIGURATION = Path(__file__).parents[2] / "deploy" / "nginx" / "fedmama.conf"
# Longer than a start waits for sites.
LATE_S = 200
SITES_PATHS = re.search(r"fleet/\(([a-z|-]+)\)", CONFIGURATION.read_text())

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(NGINX is None, reason="needs nginx (Debian's nginx-light will do)"),
]


def nginx_with(box: LocalDeployment, port: int, folder: Path, *, mutual: bool) -> list[str]:
    """Command that runs nginx with the shipped file, its four lines adapted to this machine."""
    listen = box.home.file.listen
    text = CONFIGURATION.read_text()
    if mutual:
        text = text.replace("# ssl_", "ssl_")
    for shipped, here in [
        ("server 127.0.0.1:8100;", f"server {listen};"),
        ("listen 8443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        ("/etc/fedmama/state/", f"{box.home.state}/"),
    ]:
        assert shipped in text
        text = text.replace(shipped, here)
    (folder / "fedmama.conf").write_text(text)
    (folder / "nginx.conf").write_text(
        f"pid {folder}/nginx.pid; error_log stderr warn; daemon off; master_process off;\n"
        "events {}\n"
        f"http {{ access_log {folder}/access.log; client_body_temp_path {folder}/body;"
        f" proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;"
        f" uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;"
        f" include {folder}/fedmama.conf; }}\n"
    )
    return [str(NGINX), "-p", str(folder), "-c", str(folder / "nginx.conf")]


@contextmanager
def nginx_running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """nginx during the block, unless it is ended before."""
    nginx = subprocess.Popen(command)
    try:
        yield nginx
    finally:
        nginx.terminate()
        nginx.wait(PATIENCE_S)


@contextmanager
def with_nginx(made_sites: Path, folder: Path, *, mutual: bool) -> Iterator[LocalDeployment]:
    """A coordinator and one site, with nginx between them."""
    port = free_port()
    shutil.copytree(made_sites / "sites" / "alder", folder / "alder")
    box = LocalDeployment(folder / "box", address=f"127.0.0.1:{port}")
    path = box.join(folder / "alder" / "site.yaml")
    if mutual:
        settings = yaml.safe_load(path.read_text())
        settings["coordinator"]["client_certificate"] = str(site_certificate(box.home, "alder"))
        path.write_text(yaml.safe_dump(settings))
    with nginx_running(nginx_with(box, port, folder, mutual=mutual)), box.running():
        yield box


@pytest.fixture(scope="module")
def behind_nginx(
    made_sites: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalDeployment]:
    with with_nginx(made_sites, tmp_path_factory.mktemp("nginx"), mutual=False) as box:
        yield box


def wait_for_site(box: LocalDeployment, condition: Callable[[Status], bool]) -> Status:
    folder = ServiceFolder(load_site(box.sites["alder"]))
    wait_for(lambda: condition(read_status(folder)), "the site")
    return read_status(folder)


def test_a_site_works_through_it(behind_nginx: LocalDeployment) -> None:
    assert wait_for_site(behind_nginx, lambda status: status.serving).registered
    calls = (behind_nginx.folder.parent / "access.log").read_text()
    assert 'POST /v1/fleet/activate-node HTTP/1.1" 200' in calls
    assert 'POST /v1/fleet/pull-messages HTTP/1.1" 200' in calls


def outside(box: LocalDeployment, method: str, path: str, **arguments: Any) -> int:
    with httpx.Client(verify=str(box.home.ca_certificate), trust_env=False) as client:
        url = f"https://{box.home.file.address}{path}"
        return client.request(method, url, **arguments).status_code


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/control/list-nodes"),
        ("POST", "/v1/control/start-run"),
        ("POST", "/v1/runtime/acquire-task"),
        ("POST", "/v1/fleet/register-node"),
        ("POST", "/v1/fleet/unregister-node"),
        # Ways around a pattern.
        ("POST", "/v1/fleet/../control/start-run"),
        ("POST", "/v1/fleet/%2e%2e/control/start-run"),
        ("POST", "//v1/control/start-run"),
        ("POST", "/v1/fleet/pull-messages/../../control/start-run"),
        ("POST", "/V1/Control/start-run"),
        ("GET", "/health"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("GET", "/"),
    ],
)
def test_from_outside_all_else_is_forbidden(
    behind_nginx: LocalDeployment, method: str, path: str
) -> None:
    assert outside(behind_nginx, method, path) == 403


def test_a_stranger_gets_nothing_on_the_sites_paths(behind_nginx: LocalDeployment) -> None:
    assert SITES_PATHS
    for path in SITES_PATHS[1].split("|"):
        status = outside(
            behind_nginx,
            "POST",
            f"/v1/fleet/{path}",
            content=b"",
            headers={"content-type": "application/x-protobuf"},
        )
        assert 400 <= status < 500, path


def test_an_update_that_is_too_large_is_stopped_at_the_door(behind_nginx: LocalDeployment) -> None:
    status = outside(behind_nginx, "POST", "/v1/fleet/push-object", content=b"0" * (65 * 2**20))
    assert status == 413


def test_the_site_outlives_the_service_behind_it(behind_nginx: LocalDeployment) -> None:
    wait_for_site(behind_nginx, lambda status: status.serving)
    process = behind_nginx.processes()["superlink"]
    site = behind_nginx.processes()["alder/node"]
    os.kill(process, signal.SIGKILL)
    killed = time.time()
    wait_for(lambda: behind_nginx.processes().get("superlink") not in (None, process))
    wait_for_site(
        behind_nginx,
        lambda status: (
            status.serving and (status.seconds_since_contact or 0) < time.time() - killed - 5
        ),
    )
    assert behind_nginx.processes()["alder/node"] == site


def test_a_door_that_asks_for_a_certificate(made_sites: Path, tmp_path: Path) -> None:
    with with_nginx(made_sites, tmp_path, mutual=True) as box:
        assert wait_for_site(box, lambda status: status.serving).registered
        assert outside(box, "POST", "/v1/fleet/activate-node") == 400
        site = load_site(box.sites["alder"]).coordinator
        assert site is not None
        with httpx.Client(verify=context_for(site), trust_env=False) as client:
            url = f"https://{box.home.file.address}"
            assert client.post(f"{url}/v1/control/list-nodes").status_code == 403


def test_a_run_finishes_by_itself_though_nginx_is_back_late_after_a_reboot(
    small_config: Callable[..., Any], made_sites: Path, tmp_path: Path
) -> None:
    """All of the coordinator is killed, its service is back at once, and nginx much later."""
    with with_nginx(made_sites, tmp_path, mutual=False) as box:
        federation = Federation(box, small_config, tmp_path)
        federation.wait_until_serving()
        run = federation.start("federation={rounds: 4, local_steps: 20}", "participation.quorum=1")
        run.wait_for_round(1)
        superlink = box.processes()["superlink"]
        os.kill(int((tmp_path / "nginx.pid").read_text()), signal.SIGTERM)
        os.kill(parent_of(superlink), signal.SIGKILL)
        wait_for(lambda: box.processes().get("superlink") not in (None, superlink))
        (waiting,) = wait_for(
            lambda: [event for event in run.events if event["event"] == "waiting"]
        )
        assert waiting["missing"] == ["alder"]
        time.sleep(LATE_S)
        with nginx_running([str(NGINX), "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]):
            metrics = run.finish()
    assert (metrics["status"], metrics["rounds"]) == ("finished", 4)


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
