"""A coordinator's machine that is switched off."""

import pytest

from tests.server.faults import World


class Power(BaseException):
    """The machine is switched off."""


def stopped_in(world: World, number: int) -> World:
    """A world whose machine goes off when the sites are asked in a round."""

    def off(event: dict) -> None:
        if event["event"] == "asked" and event["round"] == number and not world.logged("log_lost"):
            raise Power

    world.hooks.append(off)
    with pytest.raises(Power):
        world.run()
    world.hooks.clear()
    return world
