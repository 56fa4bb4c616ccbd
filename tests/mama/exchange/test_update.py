"""Update: the model's tensors and the variates of a block."""

from hypothesis import given
from hypothesis import strategies as st

from mama.exchange.update import VARIATE, Update, is_variate

NAMES = st.text("abcdefghijklmnopqrstuvwxyz._0123456789", min_size=1, max_size=12)


@given(st.dictionaries(NAMES, st.integers()), st.dictionaries(NAMES, st.integers()))
def test_a_block_and_back(model: dict[str, int], variates: dict[str, int]) -> None:
    update = Update(model, variates)
    block = update.block()
    assert len(block) == len(model) + len(variates)
    assert Update.of(block) == update
    assert list(block) == [*model, *(VARIATE + name for name in variates)]


def test_the_names_of_variates() -> None:
    assert Update({"w": 1}, {"w": 2}).block() == {"w": 1, "variate/w": 2}
    assert is_variate("variate/w")
    assert not is_variate("variate.w")
    assert Update.of({"w": 1}) == Update({"w": 1}, {})
