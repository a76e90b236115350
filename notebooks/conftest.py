"""`pytest --nbmake notebooks` runs every notebook, and fails where its outputs have another shape than those stored.

The shape of a notebook is, for each cell of code, which kinds of outputs follow it, and their words and the layout of
their lines with numbers blanked: the outputs a reader sees without running anything are those of this program, up to
digits. `python notebooks/store.py` stores them anew.
"""

from __future__ import annotations

import re

import nbformat
from nbmake import pytest_items
from nbmake.nb_result import NotebookError, NotebookResult
from nbmake.nb_run import NB_VERSION, NotebookRun

NUMBER = re.compile(r"[-+\u2212]?\d[\d,]*(\.\d+)?(e[-+]?\d+)?|\b(nan|inf)\b")
BLANKS = re.compile(r"[ \u2007]+")


class ComparedRun(NotebookRun):
    """A run whose outputs are held against the stored ones."""

    def execute(self) -> NotebookResult:
        """Run the notebook; an error where it fails, or where its outputs have changed their shape."""
        stored = shapes(nbformat.read(str(self.filename), NB_VERSION))
        result = super().execute()
        if result.error is None:
            result = NotebookResult(nb=result.nb, error=difference(stored, shapes(result.nb)))
        return result


def shapes(notebook: nbformat.NotebookNode) -> list[list[str]]:
    """For each cell its outputs, numbers blanked."""
    return [[shape(output) for output in joined(cell.get("outputs", []))] for cell in notebook.cells]


def joined(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Outputs with what was printed in pieces in one: where a kernel cuts it is chance."""
    whole: list[nbformat.NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream" and whole and whole[-1].get("name") == output.name:
            whole[-1] = nbformat.from_dict({**whole[-1], "text": whole[-1].text + output.text})
        else:
            whole.append(output)
    return whole


def shape(output: nbformat.NotebookNode) -> str:
    """The kind of an output, and what it says without its numbers; of a picture only that there is one."""
    if output.output_type == "stream":
        return f"{output.name}: {blanked(output.text)}"
    data = output.get("data", {})
    texts = [blanked(data[kind]) for kind in ("text/html", "text/latex") if kind in data]
    if not texts and "image/png" not in data:
        texts = [blanked(data.get("text/plain", ""))]
    return f"{output.output_type} of {', '.join(sorted(data))}: {' '.join(texts)}"


def blanked(text: str) -> str:
    """A text with every number as #, and runs of blanks, whose length follows the numbers, as one."""
    return BLANKS.sub(" ", NUMBER.sub("#", text))


def difference(stored: list[list[str]], found: list[list[str]]) -> NotebookError | None:
    """The first cell whose outputs are not the stored ones."""
    for index, (before, now) in enumerate(zip(stored, found, strict=True)):
        if before != now:
            summary = f"cell {index}: its stored outputs are stale; run `python notebooks/store.py` and look at them"
            return NotebookError(summary=summary, failing_cell_index=index,
                                 trace=f"{summary}\nstored: {before}\nnow:    {now}")
    return None


pytest_items.NotebookRun = ComparedRun
