"""The errors that a user can cause: by configuration, and by asking for what can't be exported."""


class ConfigError(ValueError):
    """A bad value in the configuration. The message is one line: `key=value: what is allowed`.

    Attributes:
        key: the full dotted configuration key, e.g. `schedule.events.prune_weight.to`.
        value: the value that was given.
        allowed: what is allowed, in words.
    """

    def __init__(self, key: str, value: object, allowed: str) -> None:
        self.key = key
        self.value = value
        self.allowed = allowed
        super().__init__(" ".join(f"{key}={value}: {allowed}".split()))

    def __reduce__(self) -> tuple[type["ConfigError"], tuple[str, object, str]]:
        return type(self), (self.key, self.value, self.allowed)  # worker processes return it pickled


class ExportError(ValueError):
    """A network that can't be exported, or a file that can't be written or does not compute what it should. The message
    is one line.
    """


def first_line(error: BaseException) -> str:
    """The first line of an error's message that says something; the error's type if there is none."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
