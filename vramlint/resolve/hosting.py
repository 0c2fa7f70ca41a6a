"""What a run has in host memory: how its weights are loaded, and what ZeRO offloads there and how."""

from __future__ import annotations

from msgspec.structs import replace

from vramlint.job import Loading, Zero
from vramlint.resolve.board import Board
from vramlint.resolve.defaults import library_default, loads_a_model

_PINNED = "zero_optimization.offload_optimizer.pin_memory"


def loading_of(board: Board) -> Loading | None:
    """How the weights come to the host; None where transformers does not load them, or in a dtype nobody knows.

    A device map sends them to the device one by one, whatever their dtype (transformers 5.23 core_model_loading.py).
    """
    dtype, network = board.value("load_dtype"), board.network
    arrives = board.value("arrival_dtype") if board.value("cast_on_device") is True else None
    arrives = arrives if isinstance(arrives, str) else None
    whole = board.value("sharded_on_device") is True and board.value("parallelism") == "fsdp"
    dtype = arrives or dtype
    of_transformers = board.setting.trainer != "" or not board.setting.framework
    if not isinstance(dtype, str) or network is None or not (of_transformers and loads_a_model(board)):
        return None
    mapped: bool | None = None
    if board.setting.from_config:
        mapped = False
    elif board.value("device_map") not in (None, "", "cpu"):
        mapped = True
    elif network.dtype_status == "stated":
        mapped = network.dtype == dtype
    return Loading(dtype, mapped, board.value("ram_efficient_loading") is True, arrives, whole)


def with_host(zero: Zero, board: Board) -> Zero:
    """ZeRO with what its offloading says of the host; page-locking by DeepSpeed's release unless it is said."""
    pinned = board.value("offload_pinned")
    if not isinstance(pinned, bool):
        found = library_default(board, "", "deepspeed", _PINNED)
        pinned = found.value is True if found is not None else zero.optimizer_pinned

    def said(name: str, otherwise: int) -> int:
        size = board.integer(name)
        return otherwise if size is None else size

    return replace(
        zero,
        optimizer_pinned=pinned,
        optimizer_swap_buffers=said("optimizer_swap_buffers", zero.optimizer_swap_buffers),
        swap_buffers=said("swap_buffers", zero.swap_buffers),
        swap_buffer_size=said("swap_buffer_size", zero.swap_buffer_size),
        parameters_in_ram=said("parameters_in_ram", zero.parameters_in_ram),
        gathers_on_save=board.value("gather_16bit_on_save") is True,
    )
