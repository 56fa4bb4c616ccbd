"""Randomness that nobody outside this process can repeat: noise that could be drawn again could be subtracted."""

import os

import numpy as np
import torch

_WORDS = slice(24, 24 + 624 * 8)  # the Mersenne Twister's words, each in 8 bytes of torch's state
_PROBE = 20_240_229


def os_generator(device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator in a state that the operating system drew.

    On a CPU `manual_seed` and `seed` keep 32 bits of a seed, few enough to try them all; so all 624 words of
    the state are drawn. It is not a cryptographic generator, and not what Opacus calls its secure mode.
    """
    generator = torch.Generator(device)
    if generator.device.type != "cpu":
        return generator.manual_seed(int.from_bytes(os.urandom(8), "little"))
    generator.manual_seed(_PROBE)
    state = generator.get_state()
    words = state.numpy()[_WORDS].view(np.uint64)
    if words[0] != _PROBE:
        raise RuntimeError("this version of torch keeps its generator's state in another form")
    words[:] = np.frombuffer(os.urandom(4 * len(words)), np.uint32)
    generator.set_state(state)
    return generator
