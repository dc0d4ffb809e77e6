"""`graphc export FILE.py:NAME -o FOLDER`: steps as a library."""

from __future__ import annotations

import argparse

from graphc.cli.outcome import DONE, print_json
from graphc.cli.steps import FORM, find_steps


def add_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "steps", metavar=FORM, nargs="+", help="of one file; NAME is what C calls it; all steps without it"
    )
    command.add_argument("-o", "--out", required=True, metavar="FOLDER", help="whose name is that of the library")
    command.add_argument(
        "--target", action="append", metavar="NAME", help="may be repeated; this machine's kind if none"
    )
    command.add_argument("--json", action="store_true", help="what was written as JSON")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from graphc.exporting import export

    made = export(find_steps(options.steps), options.out, options.target or ["native"])
    sizes = {str(file): file.stat().st_size for file in made.files}
    if options.json:
        functions = [member.name for member in made.library.members]
        files = [{"path": path, "bytes": size} for path, size in sizes.items()]
        print_json({"library": made.library.name, "functions": functions, "files": files})
        return DONE
    for path, size in sizes.items():
        print(f"{path}  {size:,} bytes")
    return DONE
