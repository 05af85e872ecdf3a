"""``docs/client.ipynb`` works as it stands, and says nothing of the machine it was written on."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from headwater_client.models import Index

NOTEBOOK = Path(__file__).parent.parent.parent / "docs" / "client.ipynb"


def test_the_notebook_runs(
    server: str, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWATER_SERVER", server)
    for folder in ("JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(folder, str(tmp_path / folder))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    place = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources=place).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    printed = "".join(output.get("text", "") for output in outputs)
    assert "12 training images were scored by das" in printed
    assert "share-alike" in printed
    receipt = json.loads((tmp_path / "receipt.json").read_text())
    assert receipt["index_id"] == index.id


def test_it_is_kept_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [(cell.outputs, cell.execution_count) for cell in code] == [([], None)] * len(code)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
