"""The facts of one possible world while they are being settled."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct, field
from msgspec.structs import replace

from vramlint.facts import Candidate, Fact, FactValue, Origin
from vramlint.job import Libraries
from vramlint.resolve.network import Network
from vramlint.resolve.releases import words


class Setting(Struct, frozen=True):
    """What is the same in all worlds of a run."""

    path: str
    libraries: Libraries
    trainer: str = ""
    """The arguments class of the Hugging Face or TRL trainer: TrainingArguments, SFTConfig, …; empty without one."""
    trl: str = ""
    """The config class of the TRL trainer that runs, also where plain TrainingArguments are given to it."""
    deepspeed: bool = False
    """A DeepSpeed configuration is in force."""
    deepspeed_optimizer: bool = False
    """That configuration has an optimizer block, which replaces the trainer's optimizer."""
    host_optimizer: bool = True
    """Accelerate puts DeepSpeedCPUAdam in place of an optimizer that ZeRO offloads, unless the configuration's
    `zero_force_ds_cpu_optimizer` is off (accelerate 1.15 accelerator.py, _prepare_deepspeed)."""
    string_model: bool = False
    """TRL's trainer loads the model itself, from an id."""
    launched: bool = False
    """The files leave to a launcher that nobody sees how many GPUs there are and whether they share the model."""
    recipe: bool = False
    """The model's keys are those of trl.ModelConfig, with its defaults."""
    command: bool = False
    """A command of TRL itself runs, or a script like it, which makes the model by trl.ModelConfig's defaults."""
    evaluates: bool = False
    """The trainer evaluates while it trains."""
    from_config: bool = False
    """The model is made from a config, with fresh float32 weights, not from a checkpoint."""
    framework: bool = False
    """A framework with a vocabulary of its own runs the loop, and divides a global batch by the GPUs."""
    world_size: int | None = None
    nodes: int | None = None

    def label(self, library: str) -> str:
        """`transformers 5.23.0`."""
        return f"{library} {words(getattr(self.libraries, library))}"


class Board(Struct):
    """Facts by name. Steps read known values and put further facts."""

    setting: Setting
    facts: dict[str, Fact]
    network: Network | None = None
    conditions: dict[str, str] = field(default_factory=dict)
    """Conditions that the candidates chosen so far hold under, by fact."""

    def value(self, name: str) -> FactValue:
        """The value if exactly one is possible, else None."""
        fact = self.facts.get(name)
        return fact.value if fact else None

    def integer(self, name: str) -> int | None:
        """The value if it is known and a number."""
        value = self.value(name)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def is_open(self, name: str) -> bool:
        """Whether several values are possible."""
        fact = self.facts.get(name)
        return fact is not None and len(fact.candidates) > 1

    def is_missing(self, name: str) -> bool:
        """Whether nothing is said."""
        return name not in self.facts

    def is_unknown(self, name: str) -> bool:
        """Whether only run time knows."""
        fact = self.facts.get(name)
        return fact is not None and not fact.candidates

    def chosen(self, name: str, candidate: Candidate) -> Board:
        """This board with one candidate chosen; the candidate None takes the fact away, so that defaults apply."""
        facts = dict(self.facts)
        if candidate.value is None:
            del facts[name]
        else:
            facts[name] = replace(facts[name], candidates=(candidate,))
        conditions = {**self.conditions, name: candidate.condition} if candidate.condition else self.conditions
        return Board(self.setting, facts, self.network, dict(conditions))

    def copy(self) -> Board:
        """A board that can be changed on its own."""
        return Board(self.setting, dict(self.facts), self.network, dict(self.conditions))


def derived(name: str, value: FactValue, reason: str, source: Fact | None = None) -> Fact:
    """A fact that follows from others; it points where `source` is written."""
    place = source.place if source else None
    key = source.key if source else ""
    fact = Fact(name, (Candidate(value, place),), Origin.DERIVED, key, "derived", reason=reason)
    return with_roads(fact, source) if source else fact


def with_roads(fact: Fact, source: Fact) -> Fact:
    """The fact with the roads of the one that it follows from."""
    return replace(fact, through=source.through, decided=source.decided, also=source.also)


def possible(name: str, values: Iterable[FactValue], reason: str, origin: Origin = Origin.ASSUMED) -> Fact:
    """A fact that no file says, with every value it may have."""
    return Fact(name, tuple(Candidate(value) for value in dict.fromkeys(values)), origin, via="", reason=reason)


def by_default(name: str, value: FactValue, library: str, key: str = "") -> Fact:
    """The default of a library; `library` with its version."""
    return Fact(name, (Candidate(value),), Origin.DEFAULT, key, "library", library)
