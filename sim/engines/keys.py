"""Keys of simulated hospitals: a key pair for each, and one roster of all public keys."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from mama.config.load import read_yaml
from mama.exchange.roster import Member, Roster
from mama.exchange.signing import write_key_pair
from mama.system.files import write_text
from server.federation.certificates import make_authority, read_private_key


def introduce(site_files: Mapping[str, Path]) -> None:
    """Give each site a key pair and a roster signed by an authority whose key is then discarded.

    Existing keys and peer settings of sites are kept.
    """
    members = []
    for name, path in site_files.items():
        private, public = path.parent / "node.key", path.parent / "node.pub"
        if not private.exists():
            write_key_pair(private, public)
        members.append(Member(site=name, public_key=public.read_text(encoding="utf-8").strip()))
    with TemporaryDirectory() as folder:
        certificate, key = Path(folder) / "ca.crt", Path(folder) / "ca.key"
        make_authority("simulated", certificate, key)
        authority = certificate.read_text(encoding="utf-8")
        signed = Roster(federation="simulated", members=tuple(members)).signed(
            read_private_key(key)
        )
    for path in site_files.values():
        write_text(path.parent / "ca.crt", authority)
        write_text(path.parent / "roster.json", signed)
        settings = read_yaml(path)
        if "peers" not in settings:
            settings["peers"] = {"key": "node.key", "authority": "ca.crt", "roster": "roster.json"}
            write_text(path, yaml.safe_dump(settings, sort_keys=False))
