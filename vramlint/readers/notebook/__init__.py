"""Notebooks: the Python of their cells, the commands they run, and edits of their JSON."""

from vramlint.readers.notebook.document import notebook_document
from vramlint.readers.notebook.edits import rewritten
from vramlint.readers.notebook.program import Script, read_script
from vramlint.readers.notebook.reading import Notebook, read_notebook
from vramlint.readers.notebook.scripts import has_cells

__all__ = ["Notebook", "Script", "has_cells", "notebook_document", "read_notebook", "read_script", "rewritten"]
