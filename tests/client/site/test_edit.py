"""An entry put into a site file changes that entry and nothing else that a person wrote."""

import os
import stat
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.site.config import load_site
from client.site.edit import put_entries
from mama.errors import ConfigError

START = """\
# Ours since 2024.
site: north   # as enrolled
data: {source: archive, dataset: dataset}
state: state
secret: secret.key
"""
NEW = {("models", "bert"): "/models/bert", ("licences", "bert"): 'MIT # "as is": yes'}


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        ("", 'models:\n  "bert": "/models/bert"\n'),
        ("models: {}   # none yet\n", 'models: {"bert": "/models/bert"}   # none yet\n'),
        (
            "models: {vit: /models/vit}  # ours\n",
            'models: {"bert": "/models/bert", vit: /models/vit}  # ours\n',
        ),
        (
            "models:\n    # big ones\n    vit: /v   # looked at\n\n    gpt: /g\nthreads: 2\n",
            'models:\n    # big ones\n    "bert": "/models/bert"\n    vit: /v   # looked at\n\n'
            "    gpt: /g\nthreads: 2\n",
        ),
        ("models:\n  bert: /old  # moved\n", 'models:\n  bert: "/models/bert"  # moved\n'),
        ("models: {bert: '/old'}\n", 'models: {bert: "/models/bert"}\n'),
        ("models:\n  vit: /v\n", 'models:\n  "bert": "/models/bert"\n  vit: /v\n'),
    ],
)
def test_all_else_stays_as_it_was_written(tmp_path: Path, models: str, expected: str) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(START + models)
    put_entries(path, NEW)
    licences = 'licences:\n  "bert": "MIT # \\"as is\\": yes"\n'
    assert path.read_text() == START + expected + licences
    site = load_site(path)
    assert site.models["bert"] == Path("/models/bert")
    assert site.licences == {"bert": 'MIT # "as is": yes'}


def test_mode_and_a_link_stay(tmp_path: Path) -> None:
    real = tmp_path / "real.yaml"
    real.write_text(START)
    for mode in (0o600, 0o640):
        real.chmod(mode)
        link = tmp_path / f"site-{mode}.yaml"
        link.symlink_to(real)
        put_entries(link, NEW)
        assert link.is_symlink()
        assert stat.S_IMODE(real.stat().st_mode) == mode
    assert load_site(real).licences


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_services_user_keeps_the_file_that_root_edits(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(START)
    os.chown(path, 1234, 1235)
    put_entries(path, NEW)
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 1235)


@pytest.mark.parametrize(
    "text",
    [
        "{site: north, data: {source: a, dataset: d}, state: s, secret: k}\n",
        START + "models: &all\n  vit: /v\n",
        START + "...\n",
    ],
)
def test_what_cannot_be_edited_is_left_and_said(tmp_path: Path, text: str) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(text)
    with pytest.raises(
        ConfigError, match=r'only a person can change. Add models: \{"bert": "/models'
    ):
        put_entries(path, NEW)
    assert path.read_text() == text


def test_a_broken_site_file_is_left(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(START + "sate: x\n")
    with pytest.raises(ConfigError, match="unknown key 'sate'"):
        put_entries(path, NEW)
    assert path.read_text() == START + "sate: x\n"


NAMES = st.text("ab#:{}'\" -,\\é", min_size=1, max_size=6)


@given(st.dictionaries(NAMES, NAMES, max_size=3), NAMES, NAMES, st.booleans())
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_is_there_and_comes(
    tmp_path: Path, known: dict[str, str], name: str, value: str, flow: bool
) -> None:
    path = tmp_path / "site.yaml"
    inner = yaml.safe_dump(known, default_flow_style=flow, allow_unicode=True, width=1000)
    written = inner if flow or not known else "\n  " + inner.replace("\n", "\n  ").rstrip() + "\n"
    path.write_text(f"{START}licences: {written}")
    put_entries(path, {("licences", name): value})
    assert load_site(path).licences == known | {name: value}
    assert path.read_text().startswith(START)
