"""Simulated hospitals get to know each other: a key pair each, and one roster of public keys for all."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from mama.configfile import read_yaml
from mama.exchange.roster import Member, Roster
from mama.files import write_text
from mama.signing import write_key_pair
from server.certificates import make_authority, read_private_key


def introduce(site_files: Mapping[str, Path]) -> None:
    """Give each site its keys, and the others' public ones in a roster signed by an authority that is then forgotten.

    Sites that have keys or settings for their peers keep them.
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
