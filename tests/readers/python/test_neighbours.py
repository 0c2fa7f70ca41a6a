"""Values that come through other modules of the project."""

from __future__ import annotations

from textwrap import dedent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.readers.python.reading import document, shown
from vramlint.readers.python import read_program
from vramlint.readers.python.lazy import Module
from vramlint.readers.python.neighbours import absolute
from vramlint.text import Document
from vramlint.values import Program, Value


class Project:
    """Modules of a project by their dotted names, `pkg.__init__` for packages; remembers which were loaded."""

    def __init__(self, modules: dict[str, str]) -> None:
        self._files = {name: dedent(text) for name, text in modules.items()}
        self.loaded: list[str] = []

    def __call__(self, module: str) -> Document | None:
        prefix = module if module.endswith(".") else f"{module}."
        for name in (f"{prefix}__init__", module):
            if name in self._files:
                self.loaded.append(name)
                return Document.of(f"{name.replace('.', '/')}.py", self._files[name])
        return None


def read_in(project: Project, text: str) -> Program:
    found, problems = read_program(document(text), {}, project)
    assert found is not None, problems
    return found


def x(text: str, project: dict[str, str]) -> object:
    """What `x` holds at the end of the script."""
    return shown(x_value(text, project))


def x_value(text: str, project: dict[str, str]) -> Value:
    found = read_in(Project(project), text)
    return next(entry.value for entry in found.constants if entry.key == "x")


@pytest.mark.parametrize(
    ("script", "modules"),
    [
        ("from settings import SIZE\nx = SIZE", {"settings": "SIZE = 4"}),
        ("import settings\nx = settings.SIZE", {"settings": "SIZE = 4"}),
        ("import pkg.config as C\nx = C.SIZE", {"pkg.config": "SIZE = 4"}),
        ("import pkg.config\nx = pkg.config.SIZE", {"pkg.config": "SIZE = 4"}),
        ("import pkg.config\nx = pkg.config.SIZE", {"pkg.__init__": "", "pkg.config": "SIZE = 4"}),
        ("from pkg import config\nx = config.SIZE", {"pkg.config": "SIZE = 4"}),
        ("from pkg import SIZE\nx = SIZE", {"pkg.__init__": "from .config import SIZE", "pkg.config": "SIZE = 4"}),
        ("from pkg import SIZE\nx = SIZE", {"pkg.__init__": "from .config import *", "pkg.config": "SIZE = 4"}),
        ("from pkg import *\nx = SIZE", {"pkg.__init__": "from pkg.config import *", "pkg.config": "SIZE = 4"}),
        ("from .config import SIZE\nx = SIZE", {".config": "from .base import SIZE", ".base": "SIZE = 4"}),
        ("from . import config\nx = config.SIZE", {".config": "SIZE = 4"}),
        ("from a.b.c import SIZE\nx = SIZE", {"a.b.c": "from ..d import SIZE", "a.d": "SIZE = 4"}),
        ("from a.b import SIZE\nx = SIZE", {"a.b.__init__": "from ..d import SIZE", "a.d": "SIZE = 4"}),
        ("def f():\n    from settings import SIZE\n    return SIZE\nx = f()", {"settings": "SIZE = 4"}),
        ("import settings\nx = getattr(settings, 'SIZE')", {"settings": "SIZE = 4"}),
    ],
)
def test_every_way_to_import_a_value(script: str, modules: dict[str, str]) -> None:
    assert x(script, modules) == 4


@pytest.mark.parametrize(
    "module",
    [
        "SIZE = 2\nSIZE = SIZE * 2",
        "BASE = 1\nSIZE = BASE + 3\nBASE = 100",
        "def _twice(n):\n    return n * FACTOR\nFACTOR = 2\nSIZE = _twice(2)",
        "if True:\n    SIZE = 4",
        "try:\n    import flash_attn\n    SIZE = 4\nexcept ImportError:\n    SIZE = 4",
        "from dataclasses import dataclass\n@dataclass\nclass C:\n    size: int = 4\nSIZE = C().size",
        "TABLE = {}\nTABLE['a'] = 4\nSIZE = TABLE['a']",
        "LIST = [1]\nLIST.append(3)\nSIZE = sum(LIST)",
        "raise SystemExit\nSIZE = 4",
        "a = 1; SIZE = 4",
        "\ufeffSIZE = 4",
    ],
)
def test_only_what_binds_a_name_runs_and_in_order(module: str) -> None:
    assert x("from settings import SIZE\nx = SIZE", {"settings": module}) == 4


def test_a_module_is_loaded_when_it_is_imported_and_read_when_it_is_used() -> None:
    project = Project({"one": "A = 1", "two": "def f(:  # no Python"})
    found = read_in(project, "from one import A\nfrom two import B, C\nimport numpy\nx = A")
    assert [entry.key for entry in found.constants] == ["A", "x"]
    assert sorted(set(project.loaded)) == ["one", "two"]


def test_names_of_modules_that_do_not_have_them_stay_names() -> None:
    assert x("from settings import OTHER\nx = [OTHER]", {"settings": "SIZE = 4"}) == ["settings.OTHER"]
    assert x("from elsewhere import y\nx = [y]", {}) == ["elsewhere.y"]
    assert x("import settings\nx = settings.OTHER", {"settings": "SIZE = 4"}) == "settings.OTHER"


def test_libraries_keep_their_names_also_in_their_own_repository() -> None:
    project = {"transformers.__init__": "Trainer = 4"}
    assert x("from transformers import Trainer\nx = [Trainer]", project) == ["transformers.Trainer"]


def test_library_names_are_seen_through_modules_that_pass_them_on() -> None:
    project = {"compat": "from transformers import *", "pkg.__init__": "from trl import SFTTrainer"}
    assert x("from pkg import SFTTrainer\nx = [SFTTrainer]", project) == ["trl.SFTTrainer"]
    assert x("from compat import Trainer\nx = Trainer", project) == "transformers.Trainer"


def test_values_keep_the_place_where_they_are_written() -> None:
    value = x_value("from settings import SIZE\nx = SIZE", {"settings": "# sizes\nOTHER = 1\n\nSIZE = 64\n"})
    place = getattr(value, "place", None)
    assert place is not None
    assert place.path == "settings.py"
    assert tuple(place.span) == (4, 8, 4, 10)


def test_a_trainer_that_another_module_builds_belongs_to_the_script() -> None:
    project = {
        "shop.build": """
            from transformers import Trainer, TrainingArguments
            from .defaults import BATCH
            from .trainer import ShopTrainer

            def build(model, **more):
                args = TrainingArguments("out", per_device_train_batch_size=BATCH, **more)
                return ShopTrainer(model=model, args=args)

            build(None)
        """,
        "shop.defaults": "BATCH = 16",
        "shop.trainer": """
            from transformers import Trainer
            class Base(Trainer):
                def __init__(self, *args, **kwargs):
                    super().__init__(*args, **kwargs)
            class ShopTrainer(Base):
                def compute_loss(self, model, inputs):
                    return model(**inputs).loss
        """,
    }
    found = read_in(Project(project), "from shop.build import build\nbuild('m', bf16=True).train()\n")
    (trainer,) = [call for call in found.calls if call.callee == "transformers.Trainer"]
    assert "transformers.Trainer" in trainer.bases
    args = trainer.argument("args")
    assert getattr(args, "callee", "") == "transformers.TrainingArguments"
    assert [shown(args.argument(name)) for name in ("per_device_train_batch_size", "bf16")] == [16, True]  # type: ignore[union-attr]
    assert found.calls[-1].callee == ".train"


def test_methods_that_a_library_calls_are_read_in_other_modules_too() -> None:
    project = {
        "trainer": """
            import bitsandbytes
            from transformers import Trainer
            class Base(Trainer):
                def create_optimizer(self):
                    self.optimizer = bitsandbytes.optim.AdamW8bit(self.model.parameters())
            class Own(Base):
                pass
            class Other(Trainer):
                def create_optimizer(self):
                    self.optimizer = bitsandbytes.optim.Lion8bit(self.model.parameters())
        """
    }
    found = read_in(Project(project), "from trainer import Other, Own\nOwn(model=None).train()\n")
    callees = [call.callee for call in found.calls]
    assert "bitsandbytes.optim.AdamW8bit" in callees
    assert "bitsandbytes.optim.Lion8bit" not in callees


def test_main_guards_of_other_modules_do_not_hold() -> None:
    project = {"settings": "SIZE = 4\nif __name__ == '__main__':\n    SIZE = 5\nNAME = __name__"}
    assert x("from settings import SIZE, NAME\nx = [SIZE, NAME]", project) == [4, "settings"]


def test_a_value_first_used_in_a_branch_is_there_afterwards() -> None:
    script = """
        import random
        from settings import SIZE, build
        if random.random() > 0.5:
            y = build()
        else:
            y = build()
        x = [SIZE, y]
    """
    assert x(script, {"settings": "SIZE = 4\ndef build():\n    return SIZE + 1"}) == [4, 5]


def test_globals_of_another_module_may_change() -> None:
    module = "MODE = 'a'\ndef choose(mode):\n    global MODE\n    MODE = mode\ndef now():\n    return MODE"
    project = {"settings": module}
    assert x("import settings\nsettings.choose('b')\nx = [settings.MODE, settings.now()]", project) == ["b", "b"]
    assert x("import settings\nsettings.MODE = 'c'\nx = settings.now()", project) == "c"


def test_registries_of_another_module_are_filled() -> None:
    module = """
        TABLE = {}
        def register(name):
            def keep(made):
                TABLE[name] = made
                return made
            return keep
        @register("small")
        def small():
            return 1
        @register("large")
        class Large:
            size = 2
        def build(name):
            return TABLE[name]()
    """
    assert x("from m import build\nx = [build('small'), build('large').size]", {"m": module}) == [1, 2]


def test_modules_that_import_each_other_end() -> None:
    project = {"a": "from b import B\nA = 1\nC = B", "b": "from a import A\nB = A + 1", "c": "from c import *"}
    assert x("from a import C as x\nx = x", project) == 2
    assert x("from c import D\nx = [D]", project) == ["c.D"]


@pytest.mark.parametrize(
    ("name", "path", "written", "wanted"),
    [
        ("a.b", "a/b.py", ".c", "a.c"),
        ("a.b", "a/b/__init__.py", ".c", "a.b.c"),
        ("a.b", "a/b.py", "..c", "c"),
        ("a.b", "a/b.py", "c.d", "c.d"),
        (".a", "x/a.py", ".c", ".c"),
        (".a", "x/a.py", "..c", "..c"),
        (".a", "x/a/__init__.py", ".c", ".a.c"),
        (".a.b", "x/a/b.py", "..c", ".c"),
        (".a", "x/a.py", ".", "."),
    ],
)
def test_relative_imports_start_from_the_importing_module(name: str, path: str, written: str, wanted: str) -> None:
    assert absolute(Module(name, path, lambda _: None, lambda _, __: None), written) == wanted


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.sampled_from("abx=\n\r\t :()[]{}'\"#,.*@+import fromdefclass\ufeff\x0c\\"), max_size=80))
def test_no_text_of_another_module_raises(text: str) -> None:
    found, _ = read_program(
        document("from a import x, b\nfrom a import *\ny = x\nz = b()\nx"), {}, Project({"a": text})
    )
    assert found is not None


LONG = "    # " + "a long body " * 30 + "\n"


def test_a_body_that_is_read_later_keeps_its_places() -> None:
    module = (
        "class C:\n    '''Doc.'''\n    @property\n    def size(self) -> int:  # comment\n        '''Say.'''\n    "
        + LONG
        + "        return 64\n\n    def other(self):\n        return (\n    "
        + LONG
        + "            self.size\n        )\n\n\ndef f(a, *, b=2):\n"
        + LONG
        + "    return [a, b]"
    )
    assert x("from m import C, f\nx = [C().size, C().other(), f(1)]", {"m": module}) == [64, 64, [1, 2]]
    value = x_value("from m import C\nx = C().other()", {"m": module})
    place = getattr(value, "place", None)
    assert place is not None
    assert Document.of("m.py", module).slice(place.span) == "64"
