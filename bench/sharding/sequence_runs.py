"""Ranks that share every sequence, as accelerate 1.15 and transformers 5.23 set them up."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes

from bench.sharding import training

Shared = tuple[Any, Callable[[dict[str, Any]], Any], Callable[[Any, dict[str, Any]], Any]]


def ranks_of(case: dict[str, Any]) -> int:
    """Ranks that share a sequence."""
    return int(case["parallelism"].get("sequence", 1))


def versions(case: dict[str, Any]) -> dict[str, str]:
    """Of the libraries that share a case's sequences, beside those of all cases."""
    wanted = case["parallelism"]
    if "ring" in wanted:
        return {"ring_flash_attn": importlib.metadata.version("ring-flash-attn")}
    if wanted.get("by") in _CHECKOUTS:
        return {}
    if wanted.get("by") == "swift":
        text = (Path(os.environ["MS_SWIFT"]) / "swift" / "version.py").read_text(encoding="utf-8")
        return {"ms_swift": text.split("__version__ = ", 1)[1].split("\n", 1)[0].strip("'\"")}
    return {}


def ulysses(case: dict[str, Any], model: Any) -> Shared:
    """DeepSpeed's Ulysses for the attention of `model`: its groups, a rank's batch, its loss.

    accelerate 1.15 accelerator.py:2395-2447, _prepare_deepspeed; transformers 5.23 integrations/deepspeed.py,
    deepspeed_sp_compute_loss.
    """
    ranks = ranks_of(case)
    if ranks == 1:
        return None, training.Engine.around, training.Engine.loss_of
    if case["parallelism"].get("by") == "swift":
        return None, *swift(case)
    if case["parallelism"].get("by") in _CHECKOUTS:
        return None, pieces(case), training.Engine.loss_of
    import deepspeed
    from deepspeed.runtime.sequence_parallel.ulysses_sp import UlyssesSPAttentionHF
    from transformers.integrations.deepspeed import deepspeed_sp_compute_loss

    deepspeed.init_distributed(dist_init_required=False)
    mpu = UlyssesSPAttentionHF.register_with_transformers(
        model_name_or_path=model,
        core_attn_implementation=case["attn"],
        sequence_parallel_size=ranks,
        micro_batch_size=case["batch"],
        seq_length_is_variable=True,
        disable_in_eval=True,
    )
    config = SimpleNamespace(sp_backend="deepspeed", sp_size=ranks)

    @contextlib.contextmanager
    def shard(batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """What UlyssesSPDataLoaderAdapter gives to a rank, with the labels that the Trainer adds."""
        labels = batch.pop("labels")
        rows, length = labels.shape
        position_ids = torch.empty(rows, length, dtype=torch.int64, device=labels.device)
        yield {**batch, "position_ids": position_ids, "shift_labels": labels}

    return mpu, shard, lambda model, batch: deepspeed_sp_compute_loss(None, model, batch, False, config)


def ring(case: dict[str, Any], model: Any, mesh: Any) -> Callable[[dict[str, Any]], Any]:
    """The context of a rank's micro batch, with torch's context_parallel for the attention of `model`.

    accelerate 1.15 accelerator.py, _prepare_cp; transformers 5.23 trainer.py, _prepare_context_parallel_inputs.
    """
    if ranks_of(case) == 1:
        return training.Engine.around
    if "ring" in case["parallelism"]:
        return flash_ring(case, model)
    from accelerate.big_modeling import _attach_context_parallel_hooks
    from torch.distributed.tensor.experimental import context_parallel
    from torch.distributed.tensor.experimental._attention import set_rotate_method
    from transformers import Trainer

    set_rotate_method(case["parallelism"].get("rotation", "allgather"))
    _attach_context_parallel_hooks(model)
    config = SimpleNamespace(cp_enabled=True, cp_backend="torch")
    accelerator = SimpleNamespace(parallelism_config=config)
    accelerator.maybe_context_parallel = lambda **given: context_parallel(mesh, **given)
    trainer = SimpleNamespace(accelerator=accelerator, _attn_mask_causal_checked=True)

    @contextlib.contextmanager
    def shard(batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
        around, given = Trainer._prepare_context_parallel_inputs(trainer, model, batch)
        with around():
            yield given

    return shard


def flash_ring(case: dict[str, Any], model: Any) -> Callable[[dict[str, Any]], Any]:
    """ring-flash-attn for the attention of `model`, as axolotl puts it there: the last rank's.

    axolotl 0.18 monkeypatch/ring_attn/{patch,adapters/batch}.py, utils/ctx_managers/sequence_parallel.py. The library's
    own code runs, over a stand-in for flash-attn's kernels.
    """
    from bench.sharding import flash_fakes

    flash_fakes.install()
    import torch.distributed as dist
    from transformers import modeling_flash_attention_utils

    for name in ("_flash_supports_window", "_flash_supports_window_size", "is_flash_attn_greater_or_equal_2_10"):
        setattr(modeling_flash_attention_utils, name, True)  # axolotl 0.18 utils/schemas/validation.py
    from ring_flash_attn import llama3_flash_attn_varlen_func, ring_flash_attn, ring_flash_attn_func
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ranks, form = ranks_of(case), case["parallelism"]["ring"]
    with _disable_current_modes():
        group = dist.new_group(list(range(ranks)))

    class Last(ring_flash_attn.RingComm):
        """The last rank's communication."""

        def __init__(self, group: Any) -> None:
            super().__init__(group)
            self.rank = self.world_size - 1

    ring_flash_attn.RingComm = Last
    dist.batch_isend_irecv = lambda ops: []
    length = case["seq"]
    ends = {name: torch.empty(2, dtype=torch.int32, device="cuda") for name in ("cu_seqlens_q", "cu_seqlens_k")}

    def attend(module: Any, query: Any, key: Any, value: Any, _mask: Any, **kwargs: Any) -> Any:
        q, k, v = (x.transpose(1, 2) for x in (query, key, value))
        given = {"dropout_p": 0.0, "softmax_scale": kwargs.get("scaling"), "causal": True, "group": group}
        if form == "ring":
            return ring_flash_attn_func(q, k, v, return_attn_probs=False, **given), None
        out = llama3_flash_attn_varlen_func(
            *(x.squeeze(0) for x in (q, k, v)),
            **ends,
            max_seqlen_q=length // ranks,
            max_seqlen_k=length,
            heads_k_stride=1,
            local_k_slice=slice(0, length),
            **given,
        )
        return out.unsqueeze(0), None

    ALL_ATTENTION_FUNCTIONS["sdpa"] = attend

    @contextlib.contextmanager
    def shard(batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """apply_sequence_parallelism."""
        rows, whole = batch["input_ids"].shape
        batch["position_ids"] = torch.arange(0, whole, dtype=torch.long, device="cuda").expand(rows, -1)
        yield {key: value.chunk(ranks, dim=1)[-1].contiguous() for key, value in batch.items()}

    return shard


def swift(case: dict[str, Any]) -> tuple[Any, Any]:
    """ms-swift's Ulysses for the attention of all models: a rank's batch, its loss.

    ms-swift 4 swift/sequence_parallel/sequence_parallel.py, local_sdpa_attn; swift/trainers/utils.py,
    per_token_loss_func_sp. MS_SWIFT is a checkout, of which ulysses.py itself runs.
    """
    import torch.distributed as dist
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    module = _loaded(Path(os.environ["MS_SWIFT"]) / "swift" / "sequence_parallel" / "ulysses.py")
    ranks = ranks_of(case)
    with _disable_current_modes():
        group = dist.new_group(list(range(ranks)))

    def gathered(local: Any, dim: int, position_ids: Any = None) -> Any:
        del position_ids
        whole = torch.empty([local.shape[0] * ranks, *local.shape[1:]], dtype=local.dtype, device=local.device)
        dist.all_gather_into_tensor(whole, local, group=group)
        return torch.cat(whole.split(local.shape[0], dim=0), dim=dim).contiguous()

    shared = SimpleNamespace(world_size=ranks, sp_world_size=ranks, rp_world_size=1, sp_group=group, gather=gathered)
    plain = ALL_ATTENTION_FUNCTIONS[case["attn"]]

    def attend(layer: Any, query: Any, key: Any, value: Any, mask: Any, **kwargs: Any) -> Any:
        def local(q: Any, k: Any, v: Any, *args: Any, **given: Any) -> Any:
            return plain(layer, *(x.transpose(1, 2) for x in (q, k, v)), *args, **given)[0]

        distributed = module.DistributedAttention(local, shared)
        return distributed(*(x.transpose(1, 2) for x in (query, key, value)), mask, **kwargs), None

    ALL_ATTENTION_FUNCTIONS[case["attn"]] = attend

    def loss_of(model: Any, batch: dict[str, Any]) -> Any:
        labels = batch.pop("labels")
        logits = model(**batch).logits
        logits, flat = logits.view(-1, logits.shape[-1]), labels.flatten()
        return torch.nn.CrossEntropyLoss(reduction="none")(logits, flat).sum() / (labels != -100).sum()

    return _placed, loss_of


def pieces(case: dict[str, Any]) -> Any:
    """Ulysses whose exchanges are lists of pieces, for the attention of all models: a rank's batch.

    verl 0.7 models/transformers/monkey_patch.py, _ulysses_flash_attention_forward; xtuner 0.2
    model/modules/dispatch/llama.py, which repeats keys before. VERL and XTUNER are checkouts, whose exchanges run.
    """
    import torch.distributed as dist
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
    from transformers.models.llama.modeling_llama import repeat_kv

    by = case["parallelism"]["by"]
    variable, file = _CHECKOUTS[by]
    module = _loaded(Path(os.environ[variable]) / file)
    ranks = ranks_of(case)
    with _disable_current_modes():
        group = dist.new_group(list(range(ranks)))
    plain = ALL_ATTENTION_FUNCTIONS[case["attn"]]

    def exchanged(x: Any, scattered: int, gathered: int) -> Any:
        if by == "xtuner":
            return module.all_to_all(x, group, scattered, gathered)
        return module.SeqAllToAll.apply(group, x, scattered, gathered)

    def attend(layer: Any, query: Any, key: Any, value: Any, mask: Any, **kwargs: Any) -> Any:
        groups = layer.num_key_value_groups
        held = None
        if by == "xtuner":
            key, value = repeat_kv(key, groups), repeat_kv(value, groups)
            layer.num_key_value_groups = 1
        query, key, value = (exchanged(x.transpose(1, 2), 2, 1) for x in (query, key, value))
        if by == "verl":
            places = kwargs["position_ids"]
            parts = [torch.empty_like(places) for _ in range(ranks)]
            dist.all_gather(parts, places, group=group)
            held = torch.cat(parts, dim=-1)
        context = plain(layer, *(x.transpose(1, 2) for x in (query, key, value)), None, **kwargs)[0]
        layer.num_key_value_groups = groups
        out = exchanged(context, 1, 2)
        del held
        return out, None

    ALL_ATTENTION_FUNCTIONS[case["attn"]] = attend
    return _placed


_CHECKOUTS = {"verl": ("VERL", "verl/utils/ulysses.py"), "xtuner": ("XTUNER", "xtuner/parallel/sequence/comm.py")}
"""Of libraries whose exchanges alone run: the variable that names a checkout, and the file in it."""


@contextlib.contextmanager
def _placed(batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
    rows, length = batch["labels"].shape
    yield {**batch, "position_ids": torch.empty(rows, length, dtype=torch.int64, device=batch["labels"].device)}


def _loaded(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise RuntimeError(f"no module can be made of {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
