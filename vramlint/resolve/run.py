"""What `resolve` gives: a run with everything that is known about it and the jobs that it may be."""

from __future__ import annotations

from msgspec import Struct

from vramlint.facts import Fact, Recognised, Remark
from vramlint.job import Gpu, Job
from vramlint.text import Place


class Version(Struct, frozen=True):
    """The version of a library that the run uses."""

    library: str
    version: tuple[int, ...]
    source: str
    """`requirements.txt:3`, or `newest known`."""


class Run(Struct, frozen=True):
    """One run, found in one or several files."""

    name: str
    """`train.py`, `train.py + ds_config.json`."""
    path: str
    """The file that the run is named after and where placeless findings point."""
    paths: tuple[str, ...]
    """All files that say something about the run."""
    kind: str
    """training, inference, library (neither trains nor generates by itself), data (a config file alone)."""
    facts: tuple[Fact, ...]
    """After defaults: one fact per name, unknown ones included."""
    jobs: tuple[Job, ...]
    """One per combination of the values that the files leave open; empty when no job can be built."""
    unresolved: tuple[str, ...]
    """Fact names without which no job, or only a bounded one, can be built (`model`, `sequence_length`)."""
    open_facts: tuple[str, ...]
    """Names of facts with several possible values, which span the range of `jobs`."""
    gpu: Gpu | None
    gpu_origin: str = ""
    """`--gpu`, `# vramlint: gpu=`, a settings file; empty without a GPU."""
    ram: int | None = None
    """Host memory of one machine, bytes, where it is declared."""
    nvme: int | None = None
    """NVMe of one machine, likewise."""
    versions: tuple[Version, ...] = ()
    remarks: tuple[Remark, ...] = ()
    launched: bool = False
    """A launcher starts it, so that its name tells it from other jobs of the same script."""
    framework: str = ""
    """The framework whose vocabulary the run's own facts are written in; empty for the libraries themselves."""
    recognised: Recognised | None = None
    """Of a data file: how its vocabulary was told."""
    anchor: Place | None = None
    """Where the run is made: the Trainer(...) or TrainingArguments(...) call."""

    def get(self, name: str) -> Fact | None:
        """The fact of that name."""
        return next((fact for fact in self.facts if fact.name == name), None)
