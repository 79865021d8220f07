import pickle

from qp_runner.errors import ConfigError


def test_an_error_is_one_line_and_travels_between_processes() -> None:
    error = ConfigError("schedule.events.a.to", 1.2, "a sparsity\nbelow 1")
    assert str(error) == "schedule.events.a.to=1.2: a sparsity below 1"
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.key, copy.value, copy.allowed) == (str(error), error.key, 1.2, error.allowed)
