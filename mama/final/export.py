"""Export of a finished model as a folder that other libraries load without this one."""

import os
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from mama.errors import ConfigError, FilesError
from mama.final.card import export_card
from mama.final.onnx import OPSET, can_write, write_onnx
from mama.final.pretrained import PretrainedMaMA
from mama.final.timm_folder import write_timm_folder
from mama.final.transformers_folder import write_transformers_folder
from mama.system.files import private_folder, write_json, write_text

FILES = """
## Files

    import timm
    image = timm.create_model("local-dir:image", pretrained=True)

    from transformers import AutoModel, AutoTokenizer
    text, tokeniser = AutoModel.from_pretrained("text"), AutoTokenizer.from_pretrained("text")
{onnx}
- `image/`: the image tower for timm. {pooling}
- `text/`: the text tower for transformers, adapters merged. The tokens of a report are `{start}`,
  then those of each sentence (`add_special_tokens=False`) and `{separator}`, at most {max_tokens}
  in all. Its feature is the mean of the last hidden states.
- `projections.safetensors`: the linear maps of both features into the common space, and the logit
  scale. The cosine there is the similarity of image and report.
- `preprocessor.json`: how an image becomes the input. `prompts.json`: tasks, classes and prompts.
"""
ONNX = f"""
    import onnxruntime
    image = onnxruntime.InferenceSession("image.onnx")
    (vectors,) = image.run(None, {{"images": pixels}})  # float32 (N, 1, H, W) in [-1, 1]

- `image.onnx`: image tower and projection, unit vectors, any number of images; opset {OPSET}.
"""
ALL = "The image feature is the mean of its tokens before the final norm."
TISSUE = (
    "It was trained on patches with tissue only. timm's own\n"
    "  forward also attends to background, so that its features of an image with background\n"
    "  differ{mask}. The image feature is the mean of the kept tokens before the final norm."
)
MAXIMUM = (
    " Their maximum is\n  appended, each half normalised over its channels to mean 0, variance 1."
)


def export(final: Path, to: Path, *, onnx: bool = True) -> None:
    """Write the export; the folder appears whole or not at all.

    Args:
        final: folder of the finished model.
        to: folder to create.
        onnx: also write the ONNX file.

    Raises:
        ConfigError: the packages for ONNX are not installed.
        FilesError: `to` exists.
        ModelError: there is no model, or a library cannot represent it.
    """
    if to.exists():
        raise FilesError("exists already", where=f"--to {to}", fix="Give the path of a new folder")
    if onnx and not can_write():
        raise ConfigError(
            "ONNX needs packages that are not installed",
            where="mama export",
            fix="Run: pip install 'fedmama[export]', or export with --no-onnx",
        )
    model = PretrainedMaMA.from_pretrained(final)
    private_folder(to.absolute().parent)
    folder = Path(tempfile.mkdtemp(prefix=f".{to.name}.", dir=to.absolute().parent))
    try:
        _write(model, final, folder, onnx=onnx)
        os.rename(folder, to)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _write(model: PretrainedMaMA, final: Path, folder: Path, *, onnx: bool) -> None:
    config = model.experiment.image
    write_timm_folder(model.model.image, folder / "image")
    layout = write_transformers_folder(model.model.text, folder / "text")
    _write_projections(model, folder / "projections.safetensors")
    if onnx:
        write_onnx(model.model, folder / "image.onnx")
    write_json(
        folder / "preprocessor.json",
        {
            "size": list(config.size),
            "layout": config.layout,
            "tokens": config.tokens,
            "pooling": config.pooling,
            "background": -1.0,
            "steps": [
                "display values: modality LUT, VOI LUT or window; MONOCHROME1 inverted",
                "crop the breast, mirror it so that the chest wall is on the left",
                "scale the tissue's 0.5th to 99.5th percentiles to 1..255, background is 0",
                "native: fit into size, left, vertically centred; square: stretch to size",
                "x / 127.5 - 1",
            ],
            "text": layout,
        },
    )
    write_json(folder / "prompts.json", model.tasks)
    pooling = ALL
    if config.tokens == "tissue":
        pooling = TISSUE.format(mask="; `image.onnx` masks it" if onnx else "")
    if config.pooling == "mean_max":
        pooling += MAXIMUM
    files = FILES.format(onnx=ONNX if onnx else "", pooling=pooling, **layout)
    write_text(folder / "README.md", export_card(model.experiment, final, files))


def _write_projections(model: PretrainedMaMA, path: Path) -> None:
    parts = {"image": model.model.image_projection, "text": model.model.text_projection}
    tensors: dict[str, torch.Tensor] = {
        f"{name}.{key}": value.cpu()
        for name, part in parts.items()
        for key, value in part.state_dict().items()
    }
    save_file(tensors | {"logit_scale": model.model.logit_scale.detach().cpu()}, path)
