"""`qp-runner export`, and files that jobs end with."""

import errno
import json
import shutil
from itertools import product
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import qp_runner
from qp_runner.export import exporting_packed, settings
from qp_runner.export.loading import load_packed
from qp_runner.export.settings import ExportSettings
from qp_runner.export.verification import kind_of
from qp_runner.models import SmallCNN
from qp_runner.tracking.records import Record, artifact_files
from support import execute, metrics

RUN = ["seed=0", "trainer.epochs=4", "trainer.device=cpu", "tracking=none", "checkpoint.enabled=false"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that ended with a packed file."""
    folder = tmp_path_factory.mktemp("results") / "runs" / "one"
    assert execute([*RUN, f"results={folder.parents[1]}", f"hydra.run.dir={folder}", "export=packed"]) == 0
    return folder


def figures(folder: Path) -> dict[str, dict]:
    return {each["file"]: each for each in json.loads((folder / "export" / "verified.json").read_text("utf-8"))}


def test_a_run_ends_with_its_file_and_records_its_figures(trained: Path) -> None:
    found = figures(trained)["packed.safetensors"]
    assert found["failures"] == []
    assert found["figures"]["equal_outputs"] == 1
    assert found["figures"]["accuracy"] == found["figures"]["accuracy_before"]
    assert found["figures"]["file_bytes"] == (trained / "export" / "packed.safetensors").stat().st_size
    table = metrics(trained).set_index("name")["value"]
    assert table["final/file_mb"] == 8 * found["figures"]["file_bytes"] / 1e6
    assert table["final/file_verified"] == 1
    assert table["final/accuracy"] == found["figures"]["accuracy"]
    artifacts = {name for _, name in artifact_files(trained, Record.load(trained))}
    assert {"export/packed.safetensors", "export/verified.json"} <= artifacts


def test_the_file_of_a_run_is_loaded_without_its_configuration(trained: Path) -> None:
    run = qp_runner.load(trained)
    given = run.file.about.given["network"]
    loaded = qp_runner.load(trained / "export" / "packed.safetensors", network=SmallCNN(width=6, **given))
    x = torch.randn(3, 1, 8, 8)
    assert torch.equal(loaded(x), run.network(x))


def test_the_command_writes_verifies_and_records(trained: Path, capsys) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra `export`")
    before = Record.load(trained)
    assert execute(["export", f"run={trained}", "format=packed,onnx", "onnx.mode=int8"]) == 0
    out = capsys.readouterr().out
    for word in ("packed.safetensors", "model.int8.onnx", "onnx int8", "top1 agreement", "verified", "float ms"):
        assert word in out
    assert execute(["export", f"run={trained}", "format=onnx"]) == 0
    found = figures(trained)
    assert sorted(found) == ["model.int8.onnx", "model.onnx", "packed.safetensors"]
    assert sorted(each.name for each in (trained / "export").iterdir()) == [*sorted(found), "verified.json"]
    exact, integer = found["model.onnx"]["figures"], found["model.int8.onnx"]["figures"]
    assert (exact["top1_agreement"], exact["equal_outputs"]) == (1, 1)
    assert integer["top1_agreement"] >= 0.99
    assert (integer["integer_convolutions"], integer["convolutions"]) == (2, 3)
    assert metrics(trained).set_index("name")["value"]["export/model_onnx/verified"] == 1
    after = Record.load(trained)
    assert (after.status, after.end_time, after.id) == ("FINISHED", before.end_time, before.id)


def test_a_file_that_computes_something_else_fails(trained: Path, capsys, monkeypatch) -> None:
    def damaged(*args, **kwargs):
        network = load_packed(*args, **kwargs)
        with torch.no_grad():
            network.fc.bias += 0.1
        return network

    monkeypatch.setattr(exporting_packed, "load_packed", damaged)
    assert execute(["export", f"run={trained}", "format=packed"]) == 1
    assert "not as it should be: packed.safetensors: outputs differ by up to" in capsys.readouterr().err
    assert figures(trained)["packed.safetensors"]["failures"]
    monkeypatch.undo()
    assert execute(["export", f"run={trained}", "format=packed"]) == 0


@pytest.mark.parametrize("kind", ["packed", "onnx"])
def test_a_full_disk_is_one_line_and_leaves_no_half_of_a_file(
    trained: Path, tmp_path: Path, capsys, monkeypatch, kind: str
) -> None:
    if kind == "onnx":
        pytest.importorskip("onnxruntime", reason="needs the extra `export`")
    folder, write = tmp_path / "runs" / "one", Path.write_bytes

    def until_full(path: Path, content: bytes) -> int:
        write(path, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    shutil.copytree(trained, folder, ignore=shutil.ignore_patterns("export"))
    with monkeypatch.context() as context:
        context.setattr(Path, "write_bytes", until_full)
        assert execute(["export", f"run={folder}", f"format={kind}"]) == 1
    err = capsys.readouterr().err
    assert err.strip() == f"qp-runner: ExportError: {folder / 'export'}: No space left on device"
    assert list((folder / "export").iterdir()) == []


TRANSFORMER = """
from torch import nn

class Transformer(nn.Module):
    def __init__(self, in_channels, classes):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
        self.fc = nn.Linear(8, classes)

    def forward(self, x):
        return self.fc(self.layer(x[:, 0]).mean(1))
"""


def test_a_transformer_with_quantized_weights_is_equal_in_its_file(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "own_transformer.py").write_text(TRANSFORMER, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    own = ["model.networks.network._target_=own_transformer.Transformer", "~model.networks.network.width"]
    folder = tmp_path / "runs" / "one"
    place = [f"results={tmp_path}", f"hydra.run.dir={folder}"]
    assert execute([*RUN, *own, *place, "schedule=q_w", "export=packed"]) == 0
    assert figures(folder)["packed.safetensors"]["figures"]["equal_outputs"] == 1
    assert torch.backends.mha.get_fastpath_enabled()


def test_every_kind_of_file_has_a_name_of_its_own() -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra `export`")
    from qp_runner.export.exporting_onnx import file_name

    choices = [
        ExportSettings(("onnx",), "int8", branches, float_bias, signed)
        for branches, float_bias, signed in product((False, True), repeat=3)
    ]
    assert len({file_name("network", several=False, settings=each) for each in choices}) == len(choices)
    assert len({kind_of(each) for each in choices}) == len(choices)


def test_a_file_in_the_place_of_the_folder_is_one_line(trained: Path, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "runs" / "one"
    shutil.copytree(trained, folder, ignore=shutil.ignore_patterns("export"))
    (folder / "export").touch()
    assert execute(["export", f"run={folder}", "format=packed"]) == 1
    assert capsys.readouterr().err.strip() == f"qp-runner: ExportError: {folder / 'export' / 'drafts'}: Not a directory"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["format=packed"], "run=?: one finished run"),
        (["run={run}"], "format=?: one of packed, onnx, or both"),
        (["run={run}", "format=pickle"], "format=pickle: one of packed, onnx"),
        (["run={run}/nothing", "format=packed"], "the folder of a finished run"),
        (["run={run}", "format=onnx", "onnx.mode=fast"], "export.onnx.mode=fast: should be 'exact' or 'int8'"),
        (["run={run}", "format=onnx", "onnx.branches=true"], "export.onnx.branches=True: an option of mode=int8"),
        (["run={run}", "format=packed,onnx", "onnx.float_bias=false"], "export.onnx.float_bias=False: an option of"),
        (
            ["run={run}", "format=onnx", "onnx.branch=true"],
            "export.onnx.branch=True: unknown key; did you mean branches?",
        ),
        (
            ["run={run}", "format=packed", "export.formats=[onnx]"],
            "export.formats=[onnx]: not a key of this command; format=",
        ),
        (["run={run}", "format=packed", "export=onnx_int8"], "export=onnx_int8: not a key of this command; format="),
        (["run={run}", "format=packed", "++export={{formats: [onnx]}}"], "not a key of this command; format="),
        (
            ["run={run}", "format=onnx", "onnx.mode=exact", "+export.onnx.mode=int8"],
            "export.onnx.mode=int8: not a key of this command; format=",
        ),
        (["run={run}", "format=packed", "onnx.mode=int8"], "onnx.mode=int8: an option of format=onnx; the format is"),
        (["run={run}", "format=packed", "results=other"], "results=other: {results}, which the run is in"),
    ],
)
def test_bad_arguments_are_one_line(trained: Path, capsys, arguments: list[str], message: str) -> None:
    assert execute(["export", *(each.format(run=trained) for each in arguments)]) == 2
    err = capsys.readouterr().err
    assert message.replace("{results}", str(trained.parents[1])) in err
    assert len(err.strip().splitlines()) == 1


def test_a_missing_extra_an_unfinished_run_and_another_version_are_one_line(
    trained: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(settings, "find_spec", lambda name: None if name == "onnxruntime" else name)
    assert execute(["export", f"run={trained}", "format=onnx"]) == 2
    assert "format=onnx: needs pip install 'qp_runner[export]' (onnxruntime missing)" in capsys.readouterr().err
    name = "model.safetensors"
    with safe_open(trained / name, "pt") as file:
        metadata = file.metadata()
    save_file(load_file(trained / name), tmp_path / name, metadata)
    (tmp_path / "run.json").write_text((trained / "run.json").read_text("utf-8").replace("FINISHED", "FAILED"), "utf-8")
    assert execute(["export", f"run={tmp_path}", "format=packed"]) == 2
    assert "a finished run; it is FAILED" in capsys.readouterr().err
    newer = metadata["qp_runner"].replace('"format": 1', '"format": 9')
    save_file(load_file(trained / name), tmp_path / name, metadata | {"qp_runner": newer})
    assert execute(["export", f"run={tmp_path}", "format=packed"]) == 2
    assert "of another version" in capsys.readouterr().err


def test_a_run_from_a_gpu_is_exported_where_there_is_none(trained: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    folder = tmp_path / "runs" / "one"
    shutil.copytree(trained, folder, ignore=shutil.ignore_patterns("export"))
    with safe_open(folder / "model.safetensors", "pt") as file:
        metadata = file.metadata()
    about = json.loads(metadata["qp_runner"])
    for each in (about["config"], about["composed"]):
        each["trainer"] |= {"device": "cuda", "executor": "graph"}
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors, folder / "model.safetensors", metadata | {"qp_runner": json.dumps(about)})
    assert execute(["export", f"run={folder}", "format=packed"]) == 0
    assert figures(folder)["packed.safetensors"]["figures"]["equal_outputs"] == 1


def test_what_a_run_was_configured_to_export_does_not_count(trained: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra `export`")
    folder = tmp_path / "runs" / "one"
    shutil.copytree(trained, folder, ignore=shutil.ignore_patterns("export"))
    with safe_open(folder / "model.safetensors", "pt") as file:
        metadata = file.metadata()
    about = json.loads(metadata["qp_runner"])
    about["composed"]["export"]["onnx"] = {"mode": "int8", "float_bias": False}
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors, folder / "model.safetensors", metadata | {"qp_runner": json.dumps(about)})
    assert execute(["export", f"run={folder}", "format=onnx"]) == 0
    assert list(figures(folder)) == ["model.onnx"]


def test_detection_is_refused_as_onnx_before_training(tmp_path: Path, capsys) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra `export`")
    small = ["experiment=orders/detection", "data.factory.train=24", "data.factory.val=2", "data.factory.test=2"]
    command = [*RUN, *small, "trainer.batch_size=3", f"results={tmp_path}", f"hydra.run.dir={tmp_path}/runs/a"]
    one = ["hydra.mode=RUN", "schedule=float", "export=onnx"]
    assert execute([*command, *one]) == 2
    err = capsys.readouterr().err
    assert "export.formats=onnx: not for detection:" in err
    assert "use packed" in err
