"""Every snippet of README.md and CONTRIBUTING.md runs.

Python and YAML with a file's name in the first line is written to that file; then the other Python and the shell lines
run, in order, in one folder. A command runs as it stands but shorter: an epoch, one seed, little data. FOLDER, FILE,
RUN and DIR stand for something that is there. Snippets without a language are drawings and the like.
"""

import os
import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from qp_runner.data import digits
from qp_runner.models import SmallCNN
from support import execute

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "CONTRIBUTING.md")
SNIPPET = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"# ([\w./]+\.(?:py|yaml))\b")
WITHOUT_RUNNING = {"scripts/run", "scripts/test", ".ci/run"}  # would run these tests, or an hour of others
NETWORK = """
from torch import nn


class MyNet(nn.Sequential):
    def __init__(self, in_channels, classes):
        layers = nn.Conv2d(in_channels, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten()
        super().__init__(*layers, nn.Linear(128, classes))
"""


class Snippet(NamedTuple):
    language: str
    text: str
    file: str


def snippets(page: str) -> list[Snippet]:
    found = []
    for _, language, text in SNIPPET.findall((ROOT / page).read_text(encoding="utf-8")):
        named = NAMED.match(text)
        found.append(Snippet(language, text, named.group(1) if named else ""))
    return found


def commands(page: str) -> list[list[str]]:
    lines = [line for each in snippets(page) if each.language == "sh" for line in each.text.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


@pytest.fixture
def folder(here: Path) -> Path:
    """What the snippets speak of: a network of one's own, a float checkpoint, a finished run."""
    (here / "my_package.py").write_text(NETWORK)
    for page in PAGES:
        for each in snippets(page):
            if each.file:
                path = here / each.file
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("a", encoding="utf-8") as file:
                    file.write(f"\n{each.text}")
    torch.manual_seed(0)
    torch.save(SmallCNN(in_channels=1, classes=10, width=6).state_dict(), "FILE")
    assert execute(["trainer.epochs=1", "trainer.batch_size=128", "tracking=none", "hydra.run.dir=RUN"]) == 0
    return here


def shorter(words: list[str]) -> list[str]:
    """A command's arguments with what makes it quick in place of what it says of that itself."""
    if words[:1] in (["plan"], ["sites"], ["evaluate"], ["export"]):
        return words
    text = " ".join(words)
    quick = ["tracking=none", "trainer.progress=false", f"trainer.epochs={int('trainer.epochs=0' not in words)}"]
    quick += ["seed=0"] if "experiment=orders/" in text else []
    quick += ["data.stride=60"] if "super_resolution" in text else []
    quick += ["search.trials=2"] if "search" in text else []
    kept = [each for each in words if not each.startswith(("trainer.epochs=", "search.trials="))]
    return [*kept, *quick]


def run(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    program, arguments = words[0], words[1:]
    if program in WITHOUT_RUNNING and not arguments:
        assert os.access(ROOT / program, os.X_OK)
        return
    assert program in ("scripts/run", "qp-runner")  # the former hands all arguments to the latter
    if "data.root=DIR" in arguments:  # a large set, which is not here: all but the data is right
        arguments = ["plan", *arguments]
    if arguments == ["--help"]:
        with pytest.raises(SystemExit) as ended:
            execute(arguments)
        assert not ended.value.code
    else:
        code = execute(shorter(arguments))
        assert code == 0, f"{words}: {capsys.readouterr().err}"


@pytest.mark.parametrize("page", PAGES)
def test_every_command_runs(page: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = commands(page)
    assert len(given) >= 5
    for words in given:
        run(words, capsys)


@pytest.mark.parametrize("page", PAGES)
def test_every_snippet_has_a_language_that_runs_or_is_a_drawing(page: str) -> None:
    for each in snippets(page):
        assert each.language in ("sh", "python", "yaml", "")
        assert each.language != "yaml" or each.file
        assert each.language or not re.search(r"^(scripts/|qp-|from |import |\w+:)", each.text, re.MULTILINE)


def readers_own() -> dict[str, Any]:
    """What the snippets of the README take for granted: a network, its data, a training step."""
    data = digits()
    batches = list(data.epoch(0, batch_size=128, seed=0))
    network = SmallCNN(in_channels=1, classes=10, width=4)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)

    def train_on(images: torch.Tensor, labels: torch.Tensor) -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()

    known = {"images": data.test.images[:4], "network": network, "loader": batches, "epochs": 2, "train_on": train_on}
    return known | {"sample": batches[0].images[:1], "calibration": batches[0].images}


def test_the_python_of_the_readme_does_what_it_says(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = [each.text for each in snippets("README.md") if each.language == "python" and not each.file]
    loading, looping = texts
    space = readers_own()
    exec(loading, space)
    assert space["logits"].shape == (4, 10)
    run = space["run"]
    assert torch.equal(space["network"](run.preprocessing(space["images"])), space["logits"])
    assert len([line for line in looping.splitlines() if line.strip()]) <= 12
    space = readers_own()
    trained = space["network"]
    exec(looping, space)
    baked = space["network"]
    for layer in ("conv2", "conv3"):
        weight = baked.get_submodule(layer).weight
        assert int((weight == 0).sum()) >= round(0.5 * weight.numel())
        assert len(weight[0].unique()) < 256
    images = readers_own()["calibration"]
    assert torch.equal(baked.eval()(images), trained.eval()(images))


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 200


def test_links_between_pages_lead_somewhere() -> None:
    pages = [ROOT / page for page in PAGES] + sorted((ROOT / "results/published").rglob("README.md"))
    for page in pages:
        text = SNIPPET.sub("", page.read_text(encoding="utf-8"))
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
            assert (page.parent / target).exists(), (page, target)
