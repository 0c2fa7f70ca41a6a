"""How the modules of a rank's model share their matrices with other ranks, by transformers' plan for the model."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from vramlint.catalog.tensor_plans import plan_of
from vramlint.job import Job
from vramlint.memory.ops.planned import Columns, Rows

ON_RANK = "plan_ranks"
"""The key by which the config of a rank says how many share a matrix."""
AUTOTP = "autotp"
"""Of `Mesh.form`: DeepSpeed takes the plan, and adds up in place (deepspeed 0.19.8 module_inject/layers.py,
RowParallel, ColumnParallel)."""
EMBEDDING = "plan_divides_embedding"
"""The key that says whether they share the embedding, too."""
GATHERED = frozenset({"colwise_gather_output", "colwise_rep"})
"""Styles whose outputs are put together."""
IN_PLACE_FROM, IN_PLACE_UNTIL = (5, 0), (5, 16)
"""Between these versions of transformers tensors are plain ones, and sums over the ranks take no memory
(integrations/tensor_parallel.py)."""
HEAD, HEADS_DIVIDED_FROM = "lm_head", (5, 15)
"""Before this version the plans of classes with a head were lost, and with them that of the head (modeling_utils.py,
post_init; distributed/mixin.py, init_parallel_plans)."""

Style = Columns | Rows


class Plan(Struct, frozen=True):
    """The plan of a rank."""

    ranks: int = 1
    styles: Mapping[str, Style] = field(default_factory=dict)
    """By the names of modules in a layer or, of the head, outside."""
    embedding: bool = False
    """The embedding is divided by its rows."""

    @classmethod
    def of(cls, job: Job) -> Plan:
        """The plan of a job; of no ranks where nothing is shared."""
        ranks = job.model.config.get(ON_RANK)
        if not isinstance(ranks, int):
            return cls()
        version = job.libraries.transformers
        mesh = job.parallelism.mesh
        copies = not IN_PLACE_FROM <= version < IN_PLACE_UNTIL and (mesh is None or mesh.form != AUTOTP)
        found: dict[str, Style] = {}
        for name, style in (plan_of(job.model.model_type) or {}).items():
            if name == HEAD and version < HEADS_DIVIDED_FROM:
                continue
            if style == "rowwise":
                found[name] = Rows(copies)
            elif style.startswith("colwise"):
                found[name] = Columns(ranks, copies, gathers=style in GATHERED)
        return cls(ranks, found, bool(job.model.config.get(EMBEDDING)))

    def style_of(self, name: str) -> Style | None:
        """How the module of that name is shared, if it is."""
        inside = name.partition(".layers.")[2].partition(".")[2]
        return self.styles.get(inside or name) if self.styles else None

    def rows_of_embedding(self, vocabulary: int) -> int:
        """Rows of the embedding that a rank has."""
        return -(-vocabulary // self.ranks) if self.embedding else vocabulary

    def rows_of_head(self, vocabulary: int) -> int:
        """Rows of the head that a rank has; the first has most."""
        return -(-vocabulary // self.ranks) if HEAD in self.styles else vocabulary
