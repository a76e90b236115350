"""Run notebooks and store them with their outputs: `python notebooks/store.py [--full] [NAME ...]`, all by default.

What changes from run to run without meaning anything (times, the numbers of executions, identifiers) is left out, so
that a difference in a stored notebook is a difference in what it says. The picture of a cell tagged "picture" is also
written to `notebooks/pictures/`, for docs/worked-pages.md. `--full` runs at full size and stores nothing.
"""

from __future__ import annotations

import base64
import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
VERSION = 4


def main(arguments: list[str]) -> None:
    """Run the notebooks whose names begin as given; store them unless at full size."""
    full = "--full" in arguments
    if full:
        os.environ["FLUIDWAIT_FULL"] = "1"
    names = [name for name in arguments if not name.startswith("--")] or [""]
    for path in sorted({path for name in names for path in HERE.glob(f"{Path(name).stem}*.ipynb")}):
        begun = time.monotonic()
        notebook = nbformat.read(path, VERSION)
        NotebookClient(notebook, timeout=3600).execute(cwd=HERE)
        print(f"{path.name}: {time.monotonic() - begun:.0f} s", flush=True)
        if not full:
            store(notebook, path)


def store(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Write a notebook that has run, without what means nothing, and its picture."""
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                         "language_info": {"name": "python"}}
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        tags = cell.metadata.get("tags", [])
        cell.metadata = {"tags": tags} if tags else {}
        if cell.cell_type == "code":
            cell.execution_count = None
            for output in cell.outputs:
                if "execution_count" in output:
                    output.execution_count = None
                if "picture" in tags and "image/png" in output.get("data", {}):
                    write_picture(output.data["image/png"], path)
    nbformat.write(notebook, path, VERSION)


def write_picture(encoded: str, path: Path) -> None:
    """Write a figure of a notebook as a file of its name."""
    folder = HERE / "pictures"
    folder.mkdir(exist_ok=True)
    (folder / f"{path.stem}.png").write_bytes(base64.b64decode(encoded))


if __name__ == "__main__":
    main(sys.argv[1:])
