"""Functions that tests have called in another process, which imports this file."""

import io
import urllib.error
from email.message import Message
from pathlib import Path


def append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def raise_what_cannot_be_received() -> None:
    raise urllib.error.HTTPError("http://localhost", 500, "no", Message(), io.BytesIO())
