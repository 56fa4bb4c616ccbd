"""The image tower as a folder that timm loads: `timm.create_model("local-dir:FOLDER")`."""

from pathlib import Path
from typing import Any

import timm
from safetensors.torch import save_file

from mama.errors import ModelError
from mama.final.merged import merged
from mama.system.files import private_folder, write_json
from mama.towers.image import ImageTower
from mama.towers.timm_models import CLASSIFIER, WEIGHTS


def write_timm_folder(tower: ImageTower, folder: Path) -> None:
    """Write config.json and model.safetensors of an image tower, with adapters merged.

    timm normalises by mean and standard deviation 0.5, which maps pixels to the tower's [-1, 1].
    Parts behind the features, which the tower does not use, have timm's initial values.

    Raises:
        ModelError: timm does not build the tower from its name and options, as with frozen
            BatchNorm.
    """
    config, trained = tower.config, merged(tower.model)
    options: dict[str, Any] = {"in_chans": 1, "num_classes": 0, **config.options}
    if tower.transformer:
        options["img_size"] = list(config.size)
    fresh = timm.create_model(config.tower, pretrained=False, **options)
    missing, unexpected = fresh.load_state_dict(trained.state_dict(), strict=False)
    lost = [name for name in missing if not name.startswith(CLASSIFIER)]
    if lost or unexpected:
        raise ModelError(
            f"timm builds another model (of {[*lost, *unexpected][0]})",
            where=f"image.tower {config.tower}",
            fix="Use the model through mama.final; a frozen BatchNorm cannot be exported to timm",
        )
    private_folder(folder)
    write_json(
        folder / "config.json",
        {
            "architecture": config.tower.split(".")[0],
            "num_classes": 0,
            "num_features": fresh.num_features,
            "model_args": {**options, "num_classes": 0},
            "pretrained_cfg": {
                "num_classes": 0,
                "input_size": [1, *config.size],
                "fixed_input_size": tower.transformer,
                "mean": [0.5],
                "std": [0.5],
                "interpolation": "bilinear",
                "crop_pct": 1.0,
                "custom_load": False,
            },
        },
    )
    state = {name: value.contiguous() for name, value in fresh.state_dict().items()}
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
