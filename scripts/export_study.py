"""Writes the trials of a search into an optuna storage, where optuna-dashboard shows them.

The study has the name of the search's folder. One that was exported before is replaced.
"""

import argparse
from contextlib import suppress
from pathlib import Path

import optuna

from qp_runner.search.study import FILE, Study


def main() -> None:
    """Exports one search."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the search: results/sweeps/...")
    parser.add_argument("--storage", default="sqlite:///study.db", help="an optuna storage (%(default)s)")
    args = parser.parse_args()
    path, name = args.folder / FILE, args.folder.resolve().name
    if not path.is_file():
        parser.error(f"{args.folder} holds no {FILE}")
    study = Study.load(path)
    with suppress(KeyError):  # there is none yet
        optuna.delete_study(study_name=name, storage=args.storage)
    study.to_optuna(study_name=name, storage=args.storage)
    print(f"{len(study.trials)} trials are in {args.storage}: optuna-dashboard {args.storage}")


if __name__ == "__main__":
    main()
