"""The file format of checkpoints: a file is complete or absent, has a checksum, and can't run code when it is read."""

import hashlib
import io
import os
import uuid
from pathlib import Path
from typing import Any

import torch

from qp_runner.errors import first_line

MAGIC = b"qp_runner checkpoint 1"
_HEADER_LIMIT = 200  # bytes


class CheckpointError(ValueError):
    """A checkpoint that can't be read or may not be written; the message says why."""


def encode(content: dict[str, Any]) -> bytes:
    """Serializes tensors, numbers, strings and containers of them: a line with a SHA-256 checksum, then the payload."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    payload = buffer.getbuffer()
    return b"%s %s\n" % (MAGIC, hashlib.sha256(payload).hexdigest().encode()) + payload


def decode(data: bytes) -> dict[str, Any]:
    """The inverse of `encode`, with tensors on the CPU; never runs code from the file.

    Raises CheckpointError for any other bytes, even if one bit differs.
    """
    header, newline, _ = data[:_HEADER_LIMIT].partition(b"\n")
    magic, _, checksum = header.rpartition(b" ")
    if not newline or magic != MAGIC:
        raise CheckpointError("not a checkpoint of this version of qp_runner")
    payload = memoryview(data)[len(header) + 1 :]
    if hashlib.sha256(payload).hexdigest().encode() != checksum:
        raise CheckpointError("wrong checksum: the file is damaged or truncated")
    try:
        content = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for content that is not plain data
        raise CheckpointError(f"torch refuses it: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise CheckpointError("it does not hold the state of a run")
    return content


def write(path: Path, data: bytes) -> None:
    """Writes a file atomically: readers, and a crash, leave all of it or nothing. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with draft.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    if os.name == "posix":  # elsewhere a folder can't be opened
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the new name itself
        finally:
            os.close(folder)
