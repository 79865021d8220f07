"""`qp-runner sites`: what is compressed, what is left and why."""

import csv
import io
from pathlib import Path

import pytest

from qp_runner.cli.main import SITES
from support import execute

RESNET = ["sites", "model=torchvision", "model.name=resnet18", "model.networks.network.small_images=true"]


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_table_fits_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert execute([*RESNET, "model.sites.exclude=[layer4.1.*]"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    assert "weights: 57.7 % in sites" in text
    assert "layer1.0.relu_1 ReLU 64×8×8 11.8 % pruned, quantized" in text
    assert "left: excluded" in text


def test_csv_has_everything_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute([*RESNET, "--csv", "model.sites.activation=[layer*relu*, relu, fc]"]) == 0
    found = rows(capsys.readouterr().out)
    by_path = {row["path"]: row for row in found}
    for target in ("weight", "activation"):
        assert sum(float(row["share"]) for row in found if row["target"] == target) == pytest.approx(1, abs=1e-4)
    assert by_path["conv1.weight"]["treatment"] == "quantized"
    assert by_path["layer1.0.relu_1"]["treatment"] == "pruned, quantized"
    assert by_path["layer1.0.relu_1"]["operation"] == "ReLU"


def test_sites_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text(
        "name: mine\nnetworks: {network: {_target_: qp_runner.models.SmallCNN, width: 4}}\n"
        'sites: {exclude: [conv3*], bits: {"fc*": 4}}\n'
    )
    assert execute(["sites", "--csv", "--config-dir", str(tmp_path), "model=mine"]) == 0
    by_path = {row["path"]: row for row in rows(capsys.readouterr().out)}
    assert by_path["fc.weight"]["treatment"] == "quantized to 4 bits"
    assert (by_path["conv3.weight"]["treatment"], by_path["conv3.weight"]["reason"]) == ("left", "excluded")
    assert by_path["relu2"]["treatment"] == "pruned, quantized"


def test_bits_by_glob_are_written_on_a_command_line_as_the_help_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert "'+model.sites.bits={*head*:8,conv\\[12\\]:4}'" in SITES
    given = r"+model.sites.bits={fc*:8,conv\[12\].*:4,relu?:6}"
    assert execute(["sites", "--csv", "model=small_cnn", given]) == 0
    treatment = {row["path"]: row["treatment"].rpartition("quantized")[2] for row in rows(capsys.readouterr().out)}
    expected = {"conv1.weight": 4, "conv2.weight": 4, "fc.weight": 8, "fc": 8, "relu1": 6, "relu2": 6, "relu3": 6}
    assert treatment == {name: f" to {bits} bits" for name, bits in expected.items()} | {"conv3.weight": ""}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["model.sites.bits={conv*:4}"], "no such key; qp-runner --cfg job lists them, +model.sites.bits=... adds one"),
        (["+model.sites.bits={conv*:40}"], "model.sites.bits.conv*=40: should be less than or equal to 16"),
        (["model.name=resnt18"], "model.name=resnt18: a model of torchvision.models; near: resnet18"),
        (["model.name=vit_b_16"], "does not fit images of 1×8×8: Wrong image height"),
        (["model.sites.exclude=[nothing*]"], "model.sites.exclude=nothing*: matches nothing"),
        (["model.sites.weight=all"], "model.sites.weight"),
    ],
)
def test_what_is_wrong_is_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["sites", "model=torchvision", *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert said in error[0]


def test_what_the_schedule_can_not_prune_is_said_after_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["sites", "model=small_cnn", "model.sites.unpruned=['*']", "schedule=p_w"]) == 2
    said = capsys.readouterr()
    assert "weights: 100 % in sites" in said.out
    assert said.err.startswith("qp-runner: model.sites.unpruned=['*']: leaves no weight to prune")
