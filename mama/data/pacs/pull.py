"""Pull studies of an archive into a folder; each is there as a whole or not at all.

FOLDER/pacs/STUDY/INSTANCE.dcm    the mammograms, named by their UIDs
FOLDER/pacs/STUDY/pulled.json     counts by which a changed study is recognised
FOLDER/pacs/.partial              studies under way, which ingest does not look at
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from mama.config.ingest import PacsConfig
from mama.data.dicom.file import open_dataset, quiet
from mama.data.dicom.reasons import ImageError
from mama.data.dicom.scan import PARTIAL
from mama.data.pacs.archive import Archive
from mama.data.pacs.faults import ArchiveError, StudyError
from mama.data.pacs.query import Instance, Listed, list_instances, list_studies
from mama.errors import DataError
from mama.system.files import full_disk_named, private_folder, sync_folder, write_json
from mama.system.locks import at_work_in

HOME, RECORD = "pacs", "pulled.json"
INCOMPLETE = 3  # exit code: finished, but studies could not be pulled
MOST_FAILURES = 5  # studies in a row, after which the archive is at fault


@dataclass
class Pulled:
    """Result of a pull, in counts: studies by what happened, instances left by reason."""

    listed: int = 0
    new: int = 0
    changed: int = 0
    withdrawn: int = 0
    left: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)

    @property
    def exit_code(self) -> int:
        """Exit code of the command."""
        return INCOMPLETE if self.failed else 0

    def lines(self) -> list[str]:
        """Return the result as lines of text, without patient data."""
        lines = [f"archive: {self.listed} studies, {self.new} new, {self.changed} changed"]
        if self.withdrawn:
            lines[0] += f", {self.withdrawn} withdrawn and not pulled"
        if self.left:
            lines.append(f"left in the archive: {_counts(self.left)}")
        if self.failed:
            lines.append(f"studies not pulled, tried again next time: {_counts(self.failed)}")
        return lines


def pull(
    config: PacsConfig,
    folder: Path,
    *,
    withdrawn: Collection[str] = (),
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Pulled:
    """Bring new and changed studies of an archive into a folder.

    It can be repeated and goes on after an interruption. A study that fails is counted, and the
    others are pulled. Nothing is removed: what the archive no longer has stays here.

    Args:
        config: the archive, and which studies.
        folder: folder of the images.
        withdrawn: PatientIDs and StudyInstanceUIDs that are not pulled.
        progress: called with a stage, the studies done and their total.

    Raises:
        ArchiveError: the archive cannot be reached, refuses, is not DICOMweb, or several studies
            in a row fail.
        DataError: it has no such study, or the folder holds other files.
        ConfigError: credentials or certificate cannot be read.
        StorageError: the disk is full.
        ServiceError: another process is pulling into the folder.
    """
    archive, result, row = Archive(config), Pulled(), 0
    studies, unnamed = list_studies(archive, config)
    if unnamed:
        result.failed["has no valid StudyInstanceUID"] = unnamed
    home = folder / HOME
    with at_work_in(home), full_disk_named(home):
        shutil.rmtree(home / PARTIAL, ignore_errors=True)
        result.listed = len(studies)
        for done, study in enumerate(studies, start=1):
            try:
                if {study.uid, study.patient} & set(withdrawn):
                    result.withdrawn += 1
                else:
                    _bring(archive, study, home, result)
                row = 0
            except StudyError as error:
                result.failed[error.what] += 1
                row += 1
                if row == MOST_FAILURES:
                    fix = "Run the command again once the archive works"
                    what = f"{row} studies in a row failed, the last since it {error.what}"
                    raise ArchiveError(what, where=archive.url, fix=fix) from None
            progress("archive", done, len(studies))
    return result


def _bring(archive: Archive, study: Listed, home: Path, result: Pulled) -> None:
    """Pull a study unless it is here and unchanged."""
    target = home / study.uid
    record = _record(target)
    if target.exists() and not (target / RECORD).exists():
        what = "holds a folder of the same name as a study, which no pull has made"
        raise DataError(what, where=str(home), fix="Move it to another place")
    instances: list[Instance] | None = None
    if record and study.instances is None:
        instances = list_instances(archive, study.uid)
    count = study.instances if instances is None else len(instances)
    if record and record["instances"] == count:
        result.left.update(record["left"])
        return
    instances = list_instances(archive, study.uid) if instances is None else instances
    left = _fetch(archive, study, instances, home / PARTIAL / study.uid)
    write_json(
        home / PARTIAL / study.uid / RECORD,
        {
            # The number by which the archive counts, although it may differ from its list.
            "instances": len(instances) if study.instances is None else study.instances,
            "files": len(instances) - left.total(),
            "left": dict(sorted(left.items())),
        },
    )
    _replace(home / PARTIAL / study.uid, target)
    result.left.update(left)
    result.new += record is None
    result.changed += record is not None


def _fetch(archive: Archive, study: Listed, instances: list[Instance], into: Path) -> Counter[str]:
    """Write the mammograms of a study to a folder; return the number of others by reason."""
    shutil.rmtree(into, ignore_errors=True)
    private_folder(into)
    left = Counter(one.reason for one in instances if one.reason)
    for one in instances:
        if one.reason:
            continue
        path = into / f"{one.uid}.dcm"
        try:
            archive.save(study.uid, one.series, one.uid, path)
            _require(path, study.uid, one.uid, archive.url)
        except ImageError as error:
            if error.reason != "too-large":
                raise StudyError("sends an object that is not DICOM", where=archive.url) from None
            path.unlink(missing_ok=True)
            left["too-large"] += 1
    return Counter({str(reason): number for reason, number in left.items()})


def _require(path: Path, study: str, instance: str, url: str) -> None:
    """Check that a file is the instance that was asked for."""
    with quiet(path), open(path, "rb") as handle:
        tags = ["StudyInstanceUID", "SOPInstanceUID", "SOPClassUID"]
        header = open_dataset(handle, path, stop_before_pixels=True, specific_tags=tags)
        found = str(header.get("StudyInstanceUID")), str(header.get("SOPInstanceUID"))
    if found != (study, instance):
        raise StudyError("sends another object than was asked for", where=url)


def _record(folder: Path) -> dict | None:
    """Return the record of a study that is here as a whole; None if it is not."""
    try:
        record = json.loads((folder / RECORD).read_bytes())
        whole = len(list(folder.glob("*.dcm"))) == record["files"]
        left = record["left"].values()
        return record if whole and all(isinstance(number, int) for number in left) else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _replace(made: Path, target: Path) -> None:
    """Put a complete folder in the place of an older one."""
    sync_folder(made)
    if target.exists():
        os.rename(target, made.with_name(f"{made.name}.old"))
    os.rename(made, target)
    sync_folder(target.parent)
    shutil.rmtree(made.parent, ignore_errors=True)


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))
