"""History of sites in a run: failures in a row, pauses, and the usual length of updates."""

from server.run.site_history import RECENT, SiteHistory


def test_failures_in_a_row_end_in_a_pause_and_an_answer_ends_them() -> None:
    memory = SiteHistory()
    assert memory.failed(["alder"], 1, 3) == []
    memory.answered({"alder": 5}, [1.0])
    assert [memory.failed(["alder"], number, 3) for number in (2, 3, 4)] == [[], [], ["alder"]]
    assert memory.failed(["alder"], 7, 3) == []  # reported once
    assert memory.paused == {"alder": 4}
    memory.answered({"alder": 5}, [1.0])
    assert (memory.paused, memory.failures) == ({}, {"alder": 0})


def test_a_paused_site_is_asked_every_so_many_rounds() -> None:
    memory = SiteHistory(paused={"alder": 4})
    assert [number for number in range(5, 14) if not memory.skipped(number, 3)] == [7, 10, 13]


def test_never_is_never() -> None:
    memory = SiteHistory()
    assert [memory.failed(["alder"], number, 0) for number in range(50)] == [[]] * 50


def test_a_site_that_is_met_again_starts_anew() -> None:
    memory = SiteHistory(failures={"alder": 3}, paused={"alder": 3})
    memory.met("alder")
    memory.met("birch")
    assert memory == SiteHistory(failures={"alder": 3, "birch": 0}, paused={"alder": 3})
    memory.returned("alder")
    memory.returned("birch")
    assert memory == SiteHistory(failures={"alder": 0, "birch": 0})


def test_a_pause_after_one_failure_is_a_pause() -> None:
    memory = SiteHistory()
    assert memory.failed(["alder"], 3, 1) == ["alder"]
    assert [memory.skipped(number, 1) for number in (4, 5, 6)] == [{"alder"}, set(), {"alder"}]


def test_the_usual_norm_is_the_models_until_there_are_updates_and_then_of_recent_rounds() -> None:
    memory = SiteHistory(model_norm=50.0)
    assert memory.usual_norm == 50
    memory.answered({}, [3.0, 1.0, 2.0])
    assert memory.usual_norm == 2
    memory.answered({}, [])
    memory.answered({}, [0.0, 0.0])
    assert memory.norms == [2]
    for number in range(2 * RECENT):
        memory.answered({}, [float(number)])
    assert memory.norms == [float(n) for n in range(RECENT, 2 * RECENT)]
    assert SiteHistory().usual_norm == 0


def test_it_comes_back_from_json_as_it_was() -> None:
    memory = SiteHistory(
        failures={"alder": 1}, paused={"birch": 2}, studies={"alder": 7}, norms=[0.1]
    )
    assert SiteHistory.model_validate_json(memory.model_dump_json()) == memory
