"""`qp-runner export run=DIR format=packed,onnx`: a finished run as files for use elsewhere."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from qp_runner.config.amend import amended
from qp_runner.errors import ConfigError
from qp_runner.export.settings import check_settings
from qp_runner.export.verification import Verified
from qp_runner.run.evaluation import in_results_of
from qp_runner.run.exported import export_run, settings_of
from qp_runner.run.model_file import read_model_file
from qp_runner.tracking import following

FORMATS = ("packed", "onnx")
MEGABYTE = 1e6
USAGE = "one finished run: qp-runner export run=DIR format=packed,onnx [onnx.mode=exact|int8] [onnx.branches=true]"


def export_files(arguments: Sequence[str], *, extra_dir: Path | None = None) -> int:
    """Writes and verifies the files that `format=` names, below the folder that `run=DIR` names, and prints their
    figures; the other arguments change the run's configuration, such as `data.root=DIR`.

    Returns the exit code: 1 where something does not hold. Raises ConfigError, ExportError; among others for a second
    way to say what is said by `format=`, `onnx.*=` and `run=`.
    """
    run = _value(arguments, "run", USAGE)
    formats = _value(arguments, "format", f"one of {', '.join(FORMATS)}, or both: {USAGE}").split(",")
    for each in formats:
        if each not in FORMATS:
            raise ConfigError("format", each, f"one of {', '.join(FORMATS)}")
    _check_keys(arguments, formats)
    file = read_model_file(Path(run), key="run")
    overrides = [f"++export.formats=[{','.join(formats)}]", *_overrides(arguments)]
    # What was to be exported when the run was trained does not count, nor what were defaults then.
    composed = {key: value for key, value in file.about.composed.items() if key != "export"}
    config = amended(composed, overrides, extra_dir=extra_dir)
    check_settings(settings_of(config.export), key="format")
    folder = file.path.parent
    config = in_results_of(folder, config, overrides)
    with following(config.store_uri(), experiment=config.task.name, results=Path(config.results)) as follower:
        follower.follow(folder)
        follower.check()
        exported = export_run(config, file)
    console = Console()
    for verified in exported.files:
        console.print(table(verified))
    print(f"in {exported.folder}")
    for failure in exported.failures:
        print(f"qp-runner: not as it should be: {failure}", file=sys.stderr)
    return 1 if exported.failures else 0


def _value(arguments: Sequence[str], key: str, allowed: str) -> str:
    values = [each.partition("=")[2] for each in arguments if each.startswith(f"{key}=")]
    if len(values) != 1 or not values[0]:
        raise ConfigError(key, " ".join(values) or "?", allowed)
    return values[0]


def _check_keys(arguments: Sequence[str], formats: Sequence[str]) -> None:
    """Raises ConfigError for what a run's configuration calls the keys of this command, and for options of a format
    that is not asked for.
    """
    for each in arguments:
        key, _, value = each.lstrip("+~").partition("=")
        if key.startswith("onnx.") and "onnx" not in formats:
            raise ConfigError(key, value, f"an option of format=onnx; the format is {','.join(formats)}")
        if key.partition("@")[0] == "export" or key.startswith("export."):
            raise ConfigError(key, value, "not a key of this command; format=... and onnx.mode=... are")


def _overrides(arguments: Sequence[str]) -> Iterator[str]:
    """The other arguments, as overrides of a configuration."""
    for each in arguments:
        if each.startswith("onnx."):
            yield f"++export.{each}"
        elif not each.startswith(("run=", "format=")):
            yield each


def table(verified: Verified) -> Table:
    """A file's figures."""
    shown = Table(title=f"\n{verified.path.name}: {verified.kind}", title_justify="left", box=None, pad_edge=False)
    shown.add_column("")
    shown.add_column("", justify="right")
    for name, value in verified.figures.items():
        shown.add_row(*_row(name, value))
    for name, text in verified.notes.items():
        shown.add_row(name, text)
    shown.add_row("verified", "[red]no[/]" if verified.failures else "yes")
    return shown


def _row(name: str, value: float) -> tuple[str, str]:
    words = name.replace("_", " ")
    if name.endswith("_bytes"):
        return words.removesuffix(" bytes"), f"{value / MEGABYTE:.3f} MB" if value >= 1e5 else f"{value:.0f} bytes"
    if name in ("top1_agreement", "top1_ties", "equal_outputs"):
        return words, f"{100 * value:.2f} %"
    return words, f"{value:.6g}"
