from pathlib import Path

import pytest

from qp_runner.training import named_files
from qp_runner.training.digester import Digester, NotDigestibleError


def test_a_text_stands_for_the_file_or_the_folder_that_it_names(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt"):
        (tmp_path / name).write_text(name)
    files = named_files.NamedFiles()
    assert [(name, size) for name, size, _ in files.of(str(tmp_path))] == [("a.txt", 5), ("b.txt", 5)]
    assert files.named == 0
    assert [name for name, _, _ in files.of(str(tmp_path / "a.txt"))] == ["a.txt"]
    assert files.named == 1
    for nothing in ("a/b", "/", "~", str(tmp_path / "none"), "x" * 5000, "\0/"):
        assert list(files.of(nothing)) == []


def test_a_folder_of_too_many_files_is_not_digested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named_files, "MOST", 2)
    for number in range(3):
        (tmp_path / str(number)).touch()
    with pytest.raises(NotDigestibleError, match=r"^data names a folder .* with more than"):
        Digester().take("data", str(tmp_path))
