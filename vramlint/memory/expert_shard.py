"""FSDP 2 of models whose experts some ranks have: torchtitan says itself what is gathered in advance.

torchtitan 0.2 models/llama4/infra/parallelize.py, apply_fsdp: a layer's experts are a group of their own, shared by the
ranks that have the same ones. Forward, a layer gathers the next one and its experts in advance, the embedding the first
layer; backward, a layer the one before and its experts, the head the last layer. Prefetched buffers are copied out of
when their group runs; forward, that of the group that ran last is let go behind the copy. A group of one rank is cast
weight by weight, without a buffer (torch 2.13 fsdp/_fully_shard/_fsdp_param_group.py, wait_for_unshard).
"""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.memory.fully_shard import EMBEDDING, EXPERTS, TAIL, FullyShard, Groups, Key
from vramlint.memory.recorder import Recorder
from vramlint.memory.tensor import LayerId, Storage


class ExpertShard(FullyShard):
    """The groups of one process while it runs."""

    def __init__(self, units: Groups, recorder: Recorder) -> None:
        super().__init__(units, recorder)
        self._layers: Sequence[LayerId | None] = ()
        self._gathered: dict[Key, Storage] = {}
        """What was gathered in advance."""
        self._alike: dict[bool, Storage] = {}
        """The same by a layer that stands for several, for the one behind it: its experts, or what else it has."""
        self._order = sorted(key for key in units.by_key if isinstance(key, tuple) and len(key) == 2)

    def enter(self, layers: Sequence[LayerId | None], before: Sequence[LayerId | None]) -> None:
        """Gather the group that runs now, and those of the next."""
        self._layers = layers
        super().enter(layers, before)

    def _forward(self, key: Key | None) -> None:
        if key is None or key not in self.units.by_key or key in self._parameters:
            return
        buffer = self._copied(key)
        self._buffer, self._running = buffer, key
        del buffer
        for following in self._following(key):
            self._prefetch(following)

    def _copied(self, key: Key) -> Storage | None:
        """Copy a group's parameters out of what it was gathered into, which is returned."""
        group = self.units.by_key[key]
        if group.ranks == 1:
            cast = self._new(group.cast // max(1, group.trained), "cast weight")
            self._parameters[key] = self._new(group.gathered, "cast weights")
            del cast
            return None
        buffer = self._taken(key) or self._gather(key)
        chunks = self._new(group.gathered, "chunks") if group.inner else None
        self._parameters[key] = self._new(group.gathered, "all-gather copy")
        del chunks
        return buffer

    def _taken(self, key: Key) -> Storage | None:
        """The buffer that was gathered for a group in advance."""
        own = self._gathered.pop(key, None)
        return self._alike.pop(key[-1] == EXPERTS, None) if own is None and self.backward else own

    def _following(self, key: Key) -> Sequence[Key | None]:
        """Whose parameters a group gathers in advance."""
        if key == EMBEDDING or (key == TAIL and self._tied):
            return self._order[:1]
        last = next((layer for layer in reversed(self._layers) if layer in self._order), None)
        if last is None:
            return ()
        place = self._order.index(last) + 1
        if place == len(self._order):
            return (TAIL,)
        following = self._order[place]
        return (following, self._experts_of([following]))

    def _prefetch(self, key: Key | None) -> None:
        if key is None or key not in self.units.by_key:
            return
        if key in self._gathered:
            return
        if self.units.by_key[key].ranks == 1:
            return
        if key not in self._parameters:
            self._gathered[key] = self._gather(key)

    def _enter_backward(self, layers: Sequence[LayerId | None], before: Sequence[LayerId | None]) -> None:
        outside = None in layers
        key = EMBEDDING if outside else self._largest(layers)
        if key is None or key not in self.units.by_key:
            return
        if key not in self._parameters:
            self._copied(key)
        self._running = key
        if not outside:
            ahead = (EMBEDDING,) if None in before else (self._largest(before), self._experts_of(before))
            for one in ahead:
                if list(before) != list(layers):
                    self._prefetch(one)
                elif one is not None and not self._stays(one) and self.units.by_key[one].ranks > 1:
                    self._alike[one[-1] == EXPERTS] = self._gather(one)

    def enter_experts(self, *, backward: bool = False) -> None:
        """Gather the running layer's experts; forward, their buffer stays until the next group has been gathered."""
        key = self._experts_of(self._layers)
        if key is None or key in self._parameters:
            return
        buffer = self._copied(key)
        if not backward:
            self._buffer = buffer

    def leave_experts(self, *, backward: bool = False) -> None:
        """Free them behind a forward that is no recomputation; reduce their gradients backward."""
        key = self._experts_of(self._layers)
        if key is None:
            return
        if backward:
            self._reduce(key)
        elif self.backward:
            self._buffer = None  # a recomputation begins and ends with the experts, as far as FSDP sees
        elif not self._stays(key):
            self._parameters.pop(key, None)

    def finish(self) -> None:
        """The whole backward is over."""
        super().finish()
        self._gathered.clear()
        self._alike.clear()
