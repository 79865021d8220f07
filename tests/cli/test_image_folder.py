"""From a folder of images to a compressed network without a line of Python."""

from pathlib import Path

from photos import write_folder
from support import execute, metrics


def test_a_network_of_torchvision_learns_a_folder_of_400_images(tmp_path: Path) -> None:
    write_folder(tmp_path / "photos", 100)
    command = ["model=torchvision", "model.name=resnet18", "data=image_folder", f"data.root={tmp_path / 'photos'}"]
    command += ["data.size=16", "data.resize=20", "trainer.epochs=3", "schedule=p_q_wf", "trainer.optimizer.lr=0.02"]
    command += ["tracking=none", "trainer.progress=false", f"results={tmp_path / 'results'}"]
    assert execute(command) == 0
    [folder] = (tmp_path / "results" / "runs").iterdir()
    table = metrics(folder)
    found = dict(zip(table["name"], table["value"], strict=True))
    assert found["compress/coverage_weight"] >= 0.99
    assert found["compress/coverage_activation"] >= 0.99
    assert found["final/bits_weight"] == found["final/bits_activation"] == 8
    assert 0.45 < found["final/sparsity_weight"] <= 0.5
    losses = table[table["name"] == "train/loss"]["value"]
    assert losses.min() < losses.iloc[0]
