"""Finding and loading rules: the built-in ones and those of the user's own folders."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import tomli
from msgspec import Struct

from vramlint.engine.rule import Rule
from vramlint.engine.rule_form import from_table
from vramlint.engine.rule_reader import Path as KeyPath
from vramlint.engine.rule_reader import RuleError, Source, did_you_mean
from vramlint.engine.selection import RuleSet

MAX_BYTES = 262_144
"""A rule file beyond this size is refused."""


BUILTIN = "VRAM"
"""The letters of built-in rules' codes."""


def builtin_directory() -> Path:
    """Where the built-in rules lie: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "rules"
    return inside if inside.is_dir() else package.parent / "rules"


class Loaded(Struct, frozen=True):
    """The rules of some files, and what is wrong with the others."""

    builtin: tuple[Rule, ...]
    own: tuple[tuple[Path, Rule], ...]
    """Those of the user's files."""
    errors: tuple[RuleError, ...]

    @property
    def rules(self) -> RuleSet:
        """All rules by code."""
        return RuleSet(tuple(sorted((*self.builtin, *(rule for _, rule in self.own)), key=lambda rule: rule.code)))


def load_rules(extra: Sequence[str | Path] = ()) -> RuleSet:
    """All built-in rules and those below the `extra` folders (or files), by code.

    Raises:
        RuleError: a rule that is not of the form, or a code, name or alias that two rules claim.
        OSError: an extra path cannot be read.
    """
    loaded = read_rules(extra)
    if loaded.errors:
        raise loaded.errors[0]
    return loaded.rules


def read_rules(extra: Sequence[str | Path]) -> Loaded:
    """The built-in rules, and those below the `extra` folders (or files) with everything that is wrong with them.

    A built-in rule's file among the extra ones counts as one of these alone.

    Raises:
        RuleError: a built-in rule that is not of the form.
        OSError: an extra path cannot be read.
    """
    home = builtin_directory()
    files = {path.resolve(): path for root in extra for path in rule_files(Path(root))}
    builtin = [(path, load_rule(path)) for path in rule_files(home) if path not in files]
    claimed = {word: path for path, rule in builtin for word in (rule.code, rule.name, *rule.aliases)}
    kinds = frozenset(kind for _, rule in builtin for kind in rule.on)
    own: list[tuple[Path, Rule]] = []
    errors: list[RuleError] = []
    for resolved, path in files.items():
        try:
            rule = load_rule(path)
            _check_own(rule, path, claimed, kinds if home not in resolved.parents else frozenset(rule.on))
        except RuleError as error:
            errors.append(error)
            continue
        claimed |= dict.fromkeys((rule.code, rule.name, *rule.aliases), path)
        own.append((path, rule))
    errors += (error for path, rule in own for error in _unknown(rule, path, claimed))
    return Loaded(tuple(rule for _, rule in builtin), tuple(own), tuple(errors))


def _unknown(rule: Rule, path: Path, claimed: Iterable[str]) -> Iterator[RuleError]:
    """The rules that a rule supersedes and that do not exist."""
    codes = tuple(claimed)
    for code in rule.supersedes:
        if code not in codes:
            yield source_of(path).error(("supersedes",), f"unknown rule {code!r}{did_you_mean(code, codes)}")


def _check_own(rule: Rule, path: Path, claimed: Mapping[str, Path], kinds: Collection[str]) -> None:
    """Check what a rule by itself cannot tell: that its names are its own, and that it reports what there is.

    Raises:
        RuleError: they are not, or there is no such remark.
    """
    for key, identifiers in (("code", (rule.code,)), ("name", (rule.name,)), ("aliases", rule.aliases)):
        for identifier in identifiers:
            if identifier in claimed:
                raise source_of(path).error((key,), f"{identifier} is already the rule of {claimed[identifier]}")
    if rule.code.startswith(BUILTIN) and builtin_directory() not in path.resolve().parents:
        raise source_of(path).error(("code",), f"{BUILTIN} is for built-in rules: take other letters")
    for kind in rule.on:
        if kind not in kinds:
            raise source_of(path).error(("on",), f"unknown kind of remark {kind!r}{did_you_mean(kind, kinds)}")


def load_rule(path: Path) -> Rule:
    """The rule of one file.

    Raises:
        RuleError: not TOML, or not of the form.
        OSError: the file cannot be read.
    """
    text = _text(path)
    try:
        table = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise RuleError(f"{path}:{error.lineno}: {error.msg}") from None
    except RecursionError:
        raise RuleError(f"{path}: nested too deeply") from None
    return from_table(table, str(path), partial(_line, text))


def source_of(path: Path) -> Source:
    """The file of a rule, for errors about it."""
    return Source(str(path), partial(_line, _text(path)))


def _text(path: Path) -> str:
    data = path.read_bytes()
    if len(data) > MAX_BYTES:
        raise RuleError(f"{path}: larger than {MAX_BYTES} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RuleError(f"{path}: {error}") from None


def _line(text: str, key: KeyPath) -> int:
    """The line on which a key stands; one that is missing stands where its table does."""
    from vramlint.readers.toml_places import find_places  # only a wrong rule pays for it

    places = find_places(text)
    while key and key not in places:
        within = [at.key_start for path, at in places.items() if path[: len(key)] == key]
        if within:
            return 1 + text.count("\n", 0, min(within))
        key = key[:-1]
    return 1 + text.count("\n", 0, places[key].key_start) if key else 1


def rule_files(root: Path) -> list[Path]:
    """The TOML files below a folder, or the file itself."""
    return sorted(path for path in root.rglob("*.toml") if path.is_file()) if root.is_dir() else [root]
