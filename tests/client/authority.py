"""A federation's authority in a test: sites that pin it, and the rosters it signs."""

from pathlib import Path
from typing import Any

import yaml

from client.identity.enrolment import init_site
from client.site.config import SiteFile, load_site
from mama.exchange.roster import Member, Roster
from mama.exchange.signing import new_key, public_line
from server.federation.certificates import make_authority, read_private_key


class Authority:
    """An authority in a folder of its own; each name has the same key on all of its rosters."""

    def __init__(self, folder: Path):
        self.certificate, self._key = folder / "ca.crt", folder / "ca.key"
        make_authority("demo", self.certificate, self._key)
        self._lines: dict[str, str] = {}

    def site(self, folder: Path, **changed: Any) -> SiteFile:
        """A new site, with changed keys of its file."""
        init_site(folder, "alder", folder, "fl.example.org:443", self.certificate)
        path = folder / "site.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changed))
        return load_site(path)

    def roster(self, version: int, *names: str) -> Roster:
        for name in names:
            self._lines.setdefault(name, public_line(new_key().public_key()))
        members = tuple(Member(site=name, public_key=self._lines[name]) for name in names)
        return Roster(federation="demo", version=version, members=members)

    def signed(self, version: int, *names: str) -> str:
        return self.seal(self.roster(version, *names))

    def seal(self, roster: Roster) -> str:
        return roster.signed(read_private_key(self._key))
