"""Heat maps: the places of an image that its similarity with a text depends on."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mama.model import MaMA


def heat_maps(model: MaMA, images: Tensor, texts: Tensor) -> Tensor:
    """Return gradient x token of the global cosine, summed over channels, for every patch.

    The tokens are those that the image tower pools, so any model has such maps, also one trained
    without the local loss. A positive value raises the cosine. Only pooling and projection are
    differentiated, which costs little beside the forward pass.

    Args:
        model: the model, in evaluation mode.
        images: (N, 1, H, W) in [-1, 1], background -1.
        texts: (M, E) unit vectors on the images' device, or (N, M, E) if each image has its own.

    Returns:
        (N, M, rows, columns) float32 on the CPU; NaN at patches that the tower leaves out.

    Source:
        Shrikumar et al. 2016 (arXiv 1605.01713), applied to pooled tokens.
    """
    tower = model.image
    with torch.no_grad():
        kept = tower.kept(images).cpu()
        tokens, packing = tower.encode(images, kept)
    tokens = tokens.detach().requires_grad_()
    with torch.enable_grad():
        embedding = F.normalize(model.image_projection(tower.pool(tokens, packing)), dim=-1)
        # Images do not affect one another, so that one backward pass serves all of them.
        cosines = (texts @ embedding.unsqueeze(-1)).squeeze(-1).sum(0)
        gradients = [torch.autograd.grad(one, tokens, retain_graph=True)[0] for one in cosines]
    maps = torch.full((len(cosines), *kept.shape), torch.nan)
    for place, gradient in enumerate(gradients):
        relevance = (gradient * tokens.detach()).sum(1).index_select(0, packing.patches)
        maps[place, kept] = relevance.float().cpu()
    return maps.unflatten(-1, tower.grid).transpose(0, 1)
