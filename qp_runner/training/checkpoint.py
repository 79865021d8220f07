"""A checkpoint as a file: whole or not there at all, checked when it is read, unable to run code."""

import hashlib
import io
import os
import uuid
from pathlib import Path
from typing import Any

import torch

MAGIC = b"qp_runner checkpoint 1"
_HEADER_LIMIT = 200


class CheckpointError(ValueError):
    """A file that is no whole checkpoint; its message says why."""


def encode(content: dict[str, Any]) -> bytes:
    """Tensors, numbers, texts and containers of them as bytes: one line with a SHA-256 of the rest, then the rest."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    payload = buffer.getbuffer()
    return b"%s %s\n" % (MAGIC, hashlib.sha256(payload).hexdigest().encode()) + payload


def decode(data: bytes) -> dict[str, Any]:
    """What `encode` was given, on the CPU. Raises CheckpointError for anything else, one changed bit included."""
    header, newline, _ = data[:_HEADER_LIMIT].partition(b"\n")
    magic, _, checksum = header.rpartition(b" ")
    if not newline or magic != MAGIC:
        raise CheckpointError("no checkpoint of this version of qp_runner")
    payload = memoryview(data)[len(header) + 1 :]
    if hashlib.sha256(payload).hexdigest().encode() != checksum:
        raise CheckpointError("its checksum is wrong: it is damaged or cut off")
    try:
        content = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch raises for content that is not plain data
        raise CheckpointError(f"torch refuses it: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict):
        raise CheckpointError("it holds something else than a run's state")
    return content


def write(path: Path, data: bytes) -> None:
    """Puts a file in place in one step: a reader, or a crash, sees all of it or none. Raises OSError."""
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
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Has the new name itself written to disk; only POSIX systems can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
