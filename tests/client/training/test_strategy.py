"""A site's part in the method, on one weight whose steps are worked out by hand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from client.site.config import SiteFile, load_site
from client.training.strategy import LocalMethod
from mama.config.strategy import StrategyConfig
from mama.errors import ModelError
from mama.exchange.arrays import Arrays
from mama.system.tensors import save_tensors

LR = 0.5


class Toy(nn.Module):
    """Loss (w - goal)^2 / 2 + (b - goal)^2 / 2."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.norm_b = (nn.Parameter(torch.zeros(1)) for _ in range(2))


@pytest.fixture
def site(site_file: Path) -> SiteFile:
    return load_site(site_file)


@pytest.fixture
def go(site: SiteFile) -> Callable[..., tuple[Toy, Arrays]]:
    """One round of SGD towards `goal` at a site; return its model and what it sends."""

    def run(config: dict, number: int, arrays: Arrays, goal: float, steps: int = 2) -> tuple:
        model = Toy()
        initial = {"norm_b": torch.zeros(1)} if "local" in config else {}
        method = LocalMethod(site, StrategyConfig.model_validate(config), "run-1", number)
        method.put(model, arrays, initial, after=False)
        corrections = method.begin(model, arrays)
        sgd = torch.optim.SGD(model.parameters(), lr=LR)
        for _ in range(steps):
            sgd.zero_grad()
            loss = (model.w - goal) ** 2 / 2 + (model.norm_b - goal) ** 2 / 2
            loss.sum().backward()
            for correct in corrections:
                correct(list(model.named_parameters()))
            sgd.step()
        return model, method.finish(model)

    return run


def arrays(**values: float) -> Arrays:
    return {name.replace("__", "/"): np.float32([value]) for name, value in values.items()}


def test_plain_and_fedprox_by_hand(go: Callable[..., tuple[Toy, Arrays]]) -> None:
    # Towards 8 from 0: 4, then 6
    _, update = go({}, 1, arrays(w=0, norm_b=0), 8)
    assert update["w"].tolist() == [6]
    # The second gradient is 4 - 8 + 0.5·4, so 4 + 0.5·2
    _, update = go({"prox": 0.5}, 1, arrays(w=0, norm_b=0), 8)
    assert update["w"].tolist() == [5]


def test_scaffold_over_two_rounds_by_hand(go: Callable[..., tuple[Toy, Arrays]]) -> None:
    config = {"scaffold": True}
    sent = arrays(w=0, norm_b=0, variate__w=0, variate__norm_b=0)
    _, update = go(config, 1, sent, 8)
    # Gradients -8 and -4; option II: 0 - 0 + (0 - 6) / (2·0.5)
    assert set(update) == {"w", "norm_b", "variate/w", "variate/norm_b"}
    assert (update["w"].item(), update["variate/w"].item()) == (6, -6)

    # From 3 with c = -2: shift -2 + 6 = 4; gradients -5 + 4, then 3.5 - 8 + 4, so to 3.5 and 3.75
    sent = arrays(w=3, norm_b=3, variate__w=-2, variate__norm_b=-2)
    for _ in range(2):  # asked for again, it starts from the same variate
        _, update = go(config, 2, sent, 8)
        assert update["w"].item() == 0.75
        # Option II: -6 + 2 + (3 - 3.75) / (2·0.5) = -4.75, less -6
        assert update["variate/w"].item() == pytest.approx(1.25)


def test_a_damaged_variate_costs_the_variate_not_the_round(
    go: Callable[..., tuple[Toy, Arrays]], site: SiteFile, caplog: pytest.LogCaptureFixture
) -> None:
    sent = arrays(w=0, norm_b=0, variate__w=0, variate__norm_b=0)
    go({"scaffold": True}, 1, sent, 8)
    (path,) = (site.state / "runs" / "run-1" / "variate").iterdir()
    path.write_bytes(path.read_bytes()[:20])
    _, update = go({"scaffold": True}, 2, sent, 8)
    assert update["variate/w"].item() == -6
    assert "weights cannot be read" in caplog.text


def test_local_tensors_stay_and_go_on_where_they_were(
    go: Callable[..., tuple[Toy, Arrays]], site: SiteFile
) -> None:
    config = {"local": ["*norm*"]}
    model, update = go(config, 1, arrays(w=0), 8)
    assert set(update) == {"w"}
    assert model.norm_b.item() == 6
    for _ in range(2):  # from 6: 7, 7.5; the shared weight from the server's 0
        model, update = go(config, 2, arrays(w=0), 8)
        assert (update["w"].item(), model.norm_b.item()) == (6, 7.5)

    def evaluated(number: int) -> float:
        method = LocalMethod(site, StrategyConfig.model_validate(config), "run-1", number)
        own = Toy()
        method.put(own, arrays(w=5), {"norm_b": torch.zeros(1)}, after=True)
        assert own.w.item() == 5
        return own.norm_b.item()

    assert [evaluated(number) for number in (0, 1, 2, 3)] == [0, 6, 7.5, 7.5]


@pytest.mark.parametrize("damage", ["cut", "of another model"])
def test_damaged_local_tensors_are_an_error(
    go: Callable[..., tuple[Toy, Arrays]], site: SiteFile, damage: str
) -> None:
    config = {"local": ["*norm*"]}
    go(config, 1, arrays(w=0), 8)
    (path,) = (site.state / "runs" / "run-1" / "local").iterdir()
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:20])
    else:
        save_tensors(path, {"norm_b": torch.zeros(2)})
    with pytest.raises(ModelError):
        go(config, 2, arrays(w=0), 8)


def test_frozen_tensors_neither_move_nor_travel_before_their_round(
    go: Callable[..., tuple[Toy, Arrays]],
) -> None:
    config = {
        "scaffold": True,
        "freeze": [{"pattern": "norm*", "until_round": 2}],
    }
    sent = arrays(w=0, norm_b=0, variate__w=0, variate__norm_b=0)
    model, update = go(config, 1, sent, 8)
    assert set(update) == {"w", "variate/w"}
    assert (model.w.item(), model.norm_b.item()) == (6, 0)
    _, update = go(config, 2, sent, 8)
    assert update["norm_b"].item() == 6
    assert update["variate/norm_b"].item() == -6


def test_a_weight_that_met_no_gradient_has_a_variate_of_zero(
    site: SiteFile, go: Callable[..., tuple[Toy, Arrays]]
) -> None:
    sent = arrays(w=0, norm_b=0, variate__w=0, variate__norm_b=0)
    go({"scaffold": True}, 1, sent, 8)
    method = LocalMethod(site, StrategyConfig(scaffold=True), "run-1", 2)
    model = Toy()
    (correct, *_) = method.begin(model, sent)[1:]
    model.w.grad = torch.ones(1)
    correct(list(model.named_parameters()))
    update = method.finish(model)
    assert update["variate/norm_b"].item() == 6
