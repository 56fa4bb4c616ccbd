"""Base models brought to a machine by hand: looked at, and nothing of them is run.

A coordinator's server, which holds no tower itself, runs this file as a program of its own; it
prints JSON:

    python -m mama.towers.bases FOLDER NAME LICENCE

NAME and LICENCE are JSON strings or null.
"""

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open

from mama.config.towers import ModelName
from mama.errors import ConfigError, MamaError, ModelError
from mama.system.files import sha256_of
from mama.system.formats import size
from mama.towers.locate import refuse_adapter, refuse_code

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
# Files that run code when they are opened.
PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl"}
LICENCES = ("licence", "license", "copying")
CONVERT = (
    "import torch, safetensors.torch as s; "
    "s.save_file({{k: v.clone().contiguous() "
    "for k, v in torch.load({0!r}, weights_only=True).items()}}, "
    "{1!r}, {{'format': 'pt'}})"
)
# Of a language model in several pieces.
CONVERT_PIECES = (
    "from transformers import AutoModel; AutoModel.from_pretrained({0!r}).save_pretrained({0!r})"
)


@dataclass(frozen=True)
class Base:
    """Folder of a base model: SHA-256 of each file of weights, in hex, and licence in one line.

    `licence_file` is where the line is from, None where a person gave it.
    """

    folder: Path
    weights: dict[str, str]
    size: int
    licence: str
    licence_file: Path | None

    def entries(self, name: str) -> dict[tuple[str, str], str]:
        """Entries for a site or federation file, as `mama.config.entry.put_entries` takes them."""
        return {("models", name): str(self.folder), ("licences", name): self.licence}

    def lines(self) -> list[str]:
        """For a person, who compares the fingerprints with the publisher's."""
        source = f", first line of {self.licence_file}" if self.licence_file else ""
        return [
            f"{self.folder}: {size(self.size)}",
            *(f"  sha256 {digest}  {name}" for name, digest in self.weights.items()),
            f"  licence: {self.licence}{source}",
        ]


def inspect(folder: Path, name: str | None, licence: str | None) -> tuple[str, Base]:
    """Inspect a folder of base weights; return its name in experiments and what it holds.

    A language model is loaded as an experiment would, without running code of its own.

    Args:
        folder: of the base weights.
        name: in experiments; None takes the folder's.
        licence: to record; None takes the first line of the licence file.

    Raises:
        ModelError: the folder holds pickles, no or damaged safetensors, or no licence where none is
        given.
        ConfigError: no experiment can use the name.
    """
    folder = folder.resolve()
    name = folder.name if name is None else name
    try:
        TypeAdapter(ModelName).validate_python(name)
    except ValidationError:
        raise ConfigError(
            "is no name of a base model", where=repr(name), fix="Give the experiment's by --name"
        ) from None
    base = look_at(folder, licence)
    _try(folder, name)
    return name, base


def look_at(folder: Path, licence: str | None) -> Base:
    """Contents of a folder of base weights, read without running any of it."""
    if not folder.is_dir():
        raise ModelError(
            "is no folder", where=str(folder), fix=f"Give a folder that holds {WEIGHTS}"
        )
    _refuse_pickles(folder)
    refuse_code(folder)
    refuse_adapter(folder)
    weights = _weights_of(folder)
    for file in weights:
        _check(file)
    text, source = _licence_of(folder, licence)
    return Base(
        folder=folder,
        weights={file.name: sha256_of(file) for file in weights},
        size=sum(file.stat().st_size for file in weights),
        licence=text,
        licence_file=source,
    )


def _refuse_pickles(folder: Path) -> None:
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in PICKLES)
    if not found:
        return
    if (folder / WEIGHTS).exists() or (folder / INDEX).exists():
        fix = "Remove it; the safetensors are enough"
    else:
        pieces = (folder / "pytorch_model.bin.index.json").exists()
        convert = (
            CONVERT_PIECES.format(str(folder))
            if pieces
            else CONVERT.format(str(found[0]), str(folder / WEIGHTS))
        )
        fix = f"Convert it, then remove it: python -c {shlex.quote(convert)}"
    raise ModelError("is a pickle, which can hold code", where=str(found[0]), fix=fix)


def _weights_of(folder: Path) -> list[Path]:
    """The files of weights: one, or those that an index names."""
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    try:
        names = set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values())
        files = sorted(folder / name for name in names)
    except FileNotFoundError:
        raise ModelError(
            f"holds neither {WEIGHTS} nor {INDEX}",
            where=str(folder),
            fix="Take the model's safetensors, under this name",
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        files = []
    if not files or any(file.parent != folder for file in files):
        raise ModelError("is no index of weights", where=str(folder / INDEX), fix="Copy it again")
    return files


def _try(folder: Path, name: str) -> None:
    """Load a language model as an experiment would.

    Only an experiment knows the architecture of an image tower.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        language = isinstance(config, dict) and "model_type" in config
    except (OSError, ValueError):
        language = False
    if language:
        # Imported late: most commands of a site load no model.
        from mama.config import TextTowerConfig
        from mama.towers.language_model import load_language_model

        load_language_model(TextTowerConfig(tower=name, max_tokens=8), folder, from_weights=True)


def _check(file: Path) -> None:
    # Imported late: it loads transformers.
    from mama.towers.checks.loaded import require_finite

    try:
        with safe_open(file, "pt") as opened:
            names = list(opened.keys())
            require_finite(((name, opened.get_tensor(name)) for name in names), str(file))
    except (OSError, SafetensorError):
        names = []
    if not names:
        raise ModelError(
            "is missing, or no whole safetensors file", where=str(file), fix="Copy it again"
        )


def _licence_of(folder: Path, given: str | None) -> tuple[str, Path | None]:
    if given is not None and given.strip():
        return " ".join(given.split()), None
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name.lower().startswith(LICENCES):
            with open(path, encoding="utf-8", errors="replace") as handle:
                lines = (" ".join(line.split()) for line in handle)
                if first := next((line for line in lines if line), None):
                    return first[:200], path
    raise ModelError(
        "holds no licence file", where=str(folder), fix="Say it: --licence 'Apache-2.0'"
    )


def main(arguments: list[str]) -> None:
    """Print what `inspect` finds; a MamaError is its message on stderr and its exit code."""
    folder, name, licence = arguments
    try:
        found, base = inspect(Path(folder), json.loads(name), json.loads(licence))
    except MamaError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    entries = [[*key, value] for key, value in base.entries(found).items()]
    print(json.dumps({"entries": entries, "lines": base.lines()}))


if __name__ == "__main__":
    main(sys.argv[1:])
