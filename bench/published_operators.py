"""Published measurements of single operators: the operator built on a tape, run forward and backward twice.

The scripts (Liger-Kernel benchmark/scripts) keep inputs and weights with their gradients between repetitions, so that
the second run is the one that is measured; most keep the graph (`retain_graph=True`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from bench.published_rows import Skip
from vramlint.job import DTYPE_BYTES
from vramlint.memory.autograd import Engine
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.linear import matmul_weight
from vramlint.memory.ops.norm import layer_norm, rms_norm
from vramlint.memory.ops.softmax import cross_entropy
from vramlint.memory.recorder import Recorder, rounded
from vramlint.memory.repetition import Layout
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Shape, Tensor
from vramlint.memory.timeline import Timeline

WORKSPACES = 2 * (8 * 1024 + 128) * 1024
"""cuBLAS workspaces of the forward and the backward thread before Hopper."""


class Operator(NamedTuple):
    """One operator with its leaves."""

    leaves: Sequence[tuple[Shape, str]]
    """Shape and dtype of inputs and weights that train."""
    forward: Callable[[Tape, Sequence[Parameter]], Tensor]
    multiplies: bool = False
    """Matrix products are among it."""
    others: int = 0
    """Bytes of what lies beside it: targets, the weights of the rival implementation."""
    keeps_graph: bool = True
    gradient_dtype: str | None = None
    """dtype of the given gradient, where the result has another one."""


def peak_of(operator: Operator) -> int:
    """Peak of allocated memory in the second run, bytes."""
    recorder = Recorder()
    tape = Tape(recorder, Layout())
    leaves = [Parameter("leaf", shape, dtype, trainable=True, multiplicity=1) for shape, dtype in operator.leaves]
    for phase in ("first", "second"):
        recorder.phase(phase)
        result = operator.forward(tape, leaves)
        given = tape.empty(result.shape, operator.gradient_dtype or result.dtype, "gradient")
        gradient = tape.to(given, result.dtype)
        kept = _saved(result) if operator.keeps_graph else []
        Engine(tape).run(result, [gradient])
        del kept, gradient, given, result
    recorder.close()
    base = operator.others + WORKSPACES * operator.multiplies + sum(rounded(leaf.nbytes) for leaf in leaves)
    return Timeline(recorder.blocks, recorder.sizes, base).peaks()["second"].bytes


def _saved(result: Tensor) -> list[Tensor]:
    """What the graph behind `result` saved."""
    kept: list[Tensor] = []
    waiting = [] if result.node is None else [result.node]
    while waiting:
        node = waiting.pop()
        kept += node.saved
        waiting += [edge[0] for edge in node.edges if edge is not None and isinstance(edge[0], Node)]
    return kept


def operator_of(row: Mapping[str, Any]) -> Operator:
    """The operator that a row measured.

    Raises:
        Skip: there is none like it here.
    """
    for pattern, make in OPERATORS:
        found = re.match(pattern, row["model"])
        if found:
            written = re.findall(r"(\w+)=(\d+)", f"{row.get('extra', '')} {found[0]}")
            sizes = {name: int(value) for name, value in written}
            dtype = "float32" if str(row.get("params_dtype")).startswith("float32") else "bfloat16"
            try:
                return make([int(group) for group in found.groups()], sizes, dtype)
            except KeyError as size:
                raise Skip(f"the operator's size {size} is not said") from None
    raise Skip("the operator is not simulated")


def _torch_loss(numbers: Sequence[int], sizes: Mapping[str, int], dtype: str) -> Operator:
    tokens, vocabulary = numbers

    def forward(tape: Tape, leaves: Sequence[Parameter]) -> Tensor:
        return cross_entropy(tape, leaves[0], Tensor((tokens,), "int64", None))

    return Operator([((tokens, vocabulary), dtype)], forward, others=8 * tokens, keeps_graph=False)


def _liger_loss(numbers: Sequence[int], sizes: Mapping[str, int], dtype: str) -> Operator:
    """The gradient is written over the logits (liger_kernel 0.2 ops/cross_entropy.py)."""
    tokens, vocabulary = numbers

    def forward(tape: Tape, leaves: Sequence[Parameter]) -> Tensor:
        losses = tape.empty((tokens,), "float32", "losses")
        out = tape.apply("liger cross entropy", (leaves[0],), (1,), "float32", _in_input)
        del losses
        return out

    return Operator([((tokens, vocabulary), dtype)], forward, others=8 * tokens)


def _in_input(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """Gradients that lie in the memory of the inputs."""
    return [None if edge is None else Tensor(edge[2], edge[3], None) for edge in node.edges]


def _head(tokens: int, width: int, vocabulary: int, dtype: str) -> dict[str, Any]:
    """Both implementations stand beside each other, each with its weight."""
    size = DTYPE_BYTES[dtype]
    return {
        "leaves": [((tokens, width), dtype), ((vocabulary, width), dtype)],
        "multiplies": True,
        "others": 8 * tokens + vocabulary * width * size,
        "keeps_graph": False,
    }


def _torch_head(numbers: Sequence[int], sizes: Mapping[str, int], dtype: str) -> Operator:
    width, vocabulary = numbers
    tokens = sizes["BT"]

    def forward(tape: Tape, leaves: Sequence[Parameter]) -> Tensor:
        logits = matmul_weight(tape, leaves[0], leaves[1], None)
        return cross_entropy(tape, logits, Tensor((tokens,), "int64", None))

    return Operator(forward=forward, **_head(tokens, width, vocabulary, dtype))


def _liger_head(numbers: Sequence[int], sizes: Mapping[str, int], dtype: str) -> Operator:
    """Chunks of logits and both gradients in forward (liger_kernel 0.4 ops/fused_linear_cross_entropy.py).

    At its highest a chunk is there as computed and as float32, beside the gradient of the chunk before it.
    """
    width, vocabulary = numbers
    tokens = sizes["BT"]
    chunk = 1 << (-(-tokens // -(-vocabulary // width)) - 1).bit_length()

    def forward(tape: Tape, leaves: Sequence[Parameter]) -> Tensor:
        kept = [tape.empty(leaf.shape, leaf.dtype, "liger gradient") for leaf in leaves]
        losses = tape.empty((tokens,), "float32", "losses")
        shape = (min(chunk, tokens), vocabulary)
        held = [tape.empty(shape, name, "logits of a chunk") for name in (dtype, dtype, "float32")]
        held.clear()
        del losses
        return tape.apply("liger head", leaves, (1,), "float32", _handed_over, save=kept)

    return Operator(forward=forward, **_head(tokens, width, vocabulary, dtype))


def _handed_over(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    return list(node.unpack(tape))


def _mlp(name: str, *, fused: bool) -> Callable[[Sequence[int], Mapping[str, int], str], Operator]:
    def make(numbers: Sequence[int], sizes: Mapping[str, int], dtype: str) -> Operator:
        width, inner = numbers
        batch, length = sizes["B"], sizes["T"]

        def forward(tape: Tape, leaves: Sequence[Parameter]) -> Tensor:
            x, gate, up, down = leaves
            return matmul_weight(tape, product(tape, x, gate, up), down, None)

        def product(tape: Tape, x: Tensor, gate: Parameter, up: Parameter) -> Tensor:
            if not fused:
                first = activation(tape, name, matmul_weight(tape, x, gate, None))
                return e.mul(tape, first, matmul_weight(tape, x, up, None))
            first, second = matmul_weight(tape, x, gate, None), matmul_weight(tape, x, up, None)
            return tape.apply("liger mul", (first, second), first.shape, dtype, _in_saved, save=(first, second))

        weights = [((inner, width), dtype), ((inner, width), dtype), ((width, inner), dtype)]
        return Operator([((batch, length, width), dtype), *weights], forward, multiplies=True)

    return make


def _in_saved(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """Gradients that are written over the saved inputs."""
    return [tensor.as_shape(tensor.shape) for tensor in node.unpack(tape)]


def _hugging_face_norm(numbers: Sequence[int], sizes: Mapping[str, int], dtype: str) -> Operator:
    """The layer is left in float32, so the result is float32 too; the gradient comes in the input's dtype."""
    shape = (numbers[0], numbers[1])

    def forward(tape: Tape, leaves: Sequence[Parameter]) -> Tensor:
        return rms_norm(tape, leaves[0], leaves[1])

    return Operator([(shape, dtype), (shape[1:], "float32")], forward, gradient_dtype=dtype)


def _torch_layer_norm(numbers: Sequence[int], sizes: Mapping[str, int], dtype: str) -> Operator:
    shape = (numbers[0], numbers[1])

    def forward(tape: Tape, leaves: Sequence[Parameter]) -> Tensor:
        return layer_norm(tape, leaves[0], leaves[1], leaves[2])

    return Operator([(shape, dtype), (shape[1:], dtype), (shape[1:], dtype)], forward)


_NUMBERS = r"\[(\d+), (\d+)\]"
_WIDTHS = r"hidden (\d+) intermediate (\d+)"
OPERATORS: Sequence[tuple[str, Callable[[Sequence[int], Mapping[str, int], str], Operator]]] = (
    (rf"torch CrossEntropyLoss, logits \w+ {_NUMBERS}", _torch_loss),
    (rf"Liger in-place cross entropy, logits \w+ {_NUMBERS}", _liger_loss),
    (r"nn\.Linear\((\d+),(\d+)\)\+CrossEntropyLoss", _torch_head),
    (r"Liger fused linear cross entropy, H=(\d+) V=(\d+)", _liger_head),
    (rf"HF LlamaMLP \(SwiGLU\) {_WIDTHS}", _mlp("silu", fused=False)),
    (rf"HF GeGLU MLP {_WIDTHS}", _mlp("gelu", fused=False)),
    (rf"Liger SwiGLU.*? {_WIDTHS}", _mlp("silu", fused=True)),
    (rf"Liger Ge?GLU.*? {_WIDTHS}", _mlp("gelu", fused=True)),
    (rf"HF LlamaRMSNorm {_NUMBERS}", _hugging_face_norm),
    (rf"torch (?:nn\.)?LayerNorm {_NUMBERS}", _torch_layer_norm),
)
"""The names of operators in rows, and what makes them from their numbers, the sizes in `extra` and the dtype."""
