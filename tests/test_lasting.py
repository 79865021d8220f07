import gc

import pytest

from qp_runner.lasting import lasting


@pytest.mark.parametrize("on", [True, False])
def test_what_was_made_within_is_exempt_from_collection_and_collecting_goes_on_as_before(on: bool) -> None:
    before, frozen = gc.isenabled(), gc.get_freeze_count()
    try:
        (gc.enable if on else gc.disable)()
        with lasting():
            assert not gc.isenabled()
            kept = [[number] for number in range(1000)]
        assert gc.isenabled() == on
        assert gc.get_freeze_count() >= frozen + len(kept)
    finally:
        gc.unfreeze()
        (gc.enable if before else gc.disable)()


def test_collecting_goes_on_after_an_error() -> None:
    def fail() -> None:
        with lasting():
            raise ImportError("nothing of that name")

    with pytest.raises(ImportError):
        fail()
    assert gc.isenabled()
    gc.unfreeze()
