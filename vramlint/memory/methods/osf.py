"""OSF: the lesser singular vectors of the weight."""

from __future__ import annotations

from vramlint.job import DTYPE_BYTES, Adapter
from vramlint.memory.adapters import option
from vramlint.memory.methods.maker import Maker
from vramlint.memory.ops.changed_weights import SplitSingular
from vramlint.memory.ops.linear import Adapter as Wrapper


def wrap(build: Maker, adapter: Adapter, name: str, inputs: int, outputs: int) -> Wrapper:
    """Vectors and values from the effective rank on; those before are buffers beside the weight itself.

    Without a rank it is half of the smaller side (tuners/osf/layer.py).
    """
    smaller = min(inputs, outputs)
    last = name.rpartition(".")[2]
    given = adapter.rank_pattern.get(last) or option(adapter, "effective_rank", 0)
    frozen = min(given or smaller // 2, smaller)
    trained = smaller - frozen
    build.buffer(DTYPE_BYTES[build.dtype] * frozen * (inputs + outputs + 1))
    return SplitSingular(
        build.trained(f"{name}.osf_svd_params.U_low", (outputs, trained)),
        build.trained(f"{name}.osf_svd_params.S_low", (1, trained)),
        build.trained(f"{name}.osf_svd_params.V_low", (trained, inputs)),
        frozen,
    )
