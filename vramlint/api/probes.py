"""Answers to what scripts ask at run time about the machine, the launcher and the installed libraries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from vramlint.values import Plain

if TYPE_CHECKING:
    from vramlint.api.world import World
    from vramlint.job import Libraries

_LIBRARIES = ("torch", "transformers", "peft", "trl", "accelerate", "bitsandbytes", "deepspeed")
_WITH_DEFAULTS = ("transformers", "trl", "peft")
"""Libraries whose classes of arguments the catalog knows the defaults of."""

_RANKS = ("RANK", "LOCAL_RANK")
_SIZES = ("WORLD_SIZE", "LOCAL_WORLD_SIZE")


class Answers(Mapping[str, Plain]):
    """What is known, by the source text of the question.

    Versions and library defaults are looked up when a script asks for one: few do, and the versions take a search
    for requirements in the folders above.
    """

    def __init__(self, fixed: Mapping[str, Plain], libraries: Callable[[], Libraries]) -> None:
        self._known = dict(fixed)
        self._of_run = libraries
        self._libraries: Libraries | None = None

    def __getitem__(self, question: str) -> Plain:
        if question in self._known:
            return self._known[question]
        package, _, rest = question.partition(".")
        if rest == "__version__" and package in _LIBRARIES:
            answer: Plain = ".".join(map(str, getattr(self._versions(), package)))
        elif package in _WITH_DEFAULTS and "." in rest:
            answer = self._default(*rest.split(".")[-2:])
        else:
            raise KeyError(question)
        self._known[question] = answer
        return answer

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def _versions(self) -> Libraries:
        if self._libraries is None:
            self._libraries = self._of_run()
        return self._libraries

    def _default(self, owner: str, key: str) -> Plain:
        from vramlint.catalog.defaults import effective_default
        from vramlint.catalog.keys import LIBRARIES

        found = effective_default(owner, key, self._versions()) if owner in LIBRARIES else None
        if found is None or found.value is None or isinstance(found.value, tuple):
            raise KeyError(f"{owner}.{key}")
        return found.value


def machine_answers(world: World) -> Mapping[str, Plain]:
    """Answers about the device, the launcher and the environment that it sets.

    An undeclared world counts as one without a launcher, so that what a script takes for an unset variable holds: no
    file of the run sets it. So does one that Python itself starts, however many GPUs it sees. Where a launcher starts
    as many processes as it finds GPUs, the sizes stay open.
    """
    gpu, size, nodes = world.gpu, world.world_size, world.nodes
    answers: dict[str, Plain] = {}
    if gpu is not None:
        answers |= {"torch.cuda.is_available()": True, "torch.cuda.is_bf16_supported()": gpu.bf16}
        for index, part in enumerate(gpu.compute_capability or ()):
            answers[f"torch.cuda.get_device_capability()[{index}]"] = part
    launched = world.launched or (size is not None and size > 1 and not world.alone)
    per_node = (size or 1) // (nodes or 1)
    if not launched or size is not None:
        for name, amount in zip(_SIZES, (size, per_node), strict=True):
            answers[f'os.environ["{name}"]'] = str(amount) if launched else None
    for name in _RANKS:
        answers[f'os.environ["{name}"]'] = "0" if launched else None
    if size is not None:
        processes = size if launched else 1
        answers |= {"torch.cuda.device_count()": per_node, "torch.distributed.get_world_size()": processes}
    return answers | {f'os.environ["{name}"]': value for name, value in world.environment.items()}
