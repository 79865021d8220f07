"""User names and passwords in addresses, which must not get into records, logs or error lines."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

KEY = re.compile(r"\+{0,2}tracking\.uri=")
VARIABLE = "QP_RUNNER_TRACKING_URI"
"""Environment variable that hands the whole address to the processes of a command."""

USER = re.compile(r"([A-Za-z][\w+.-]*://)[^/\s'\"]*@")
QUERY = re.compile(r"([?&](?:user|username|password|passwd|pwd|token|sslpassword)=)[^&\s'\"]+", re.IGNORECASE)


def masked(text: str) -> str:
    """A text with `***` for the user information of every address in it: `postgresql://***@host/database`."""
    return QUERY.sub(r"\1***", USER.sub(r"\1***@", text))


def mask_files(paths: Iterable[Path]) -> None:
    """Masks text files in place; those without anything to mask are not touched."""
    for path in paths:
        text = path.read_text(encoding="utf-8")
        if masked(text) != text:
            path.write_text(masked(text), encoding="utf-8")


def hide(arguments: Sequence[str]) -> list[str]:
    """A command line with a masked `tracking.uri`; `revealed` knows the address.

    Nothing that sees the command line then (the records, Hydra's own files, what launchers leave) can keep a password.
    """
    found = []
    for each in arguments:
        if (key := KEY.match(each)) and masked(each) != each:
            os.environ[VARIABLE] = each[key.end() :].strip("'\"")
        found.append(masked(each) if key else each)
    return found


def revealed(uri: str) -> str:
    """The address as it was given to `hide`; any other one stays as it is."""
    whole = os.environ.get(VARIABLE, "")
    return whole if "***" in uri and masked(whole) == uri else uri
