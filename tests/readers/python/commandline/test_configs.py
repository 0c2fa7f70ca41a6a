"""Hydra, OmegaConf, absl, and scripts that override their own globals."""

from __future__ import annotations

from tests.readers.python.commandline.starting import given, place_text, started, used
from tests.readers.python.reading import shown
from vramlint.values import Scalar

HYDRA = """
    import hydra, lib
    from omegaconf import DictConfig, OmegaConf

    @hydra.main(version_base=None, config_path="conf", config_name="config")
    def main(cfg: DictConfig):
        lib.use(
            name=cfg.model.name, layers=cfg.model.layers, lr=cfg.optim.lr, batch=cfg["batch"], out=cfg.out,
            total=cfg.get("total", 7), has=hasattr(cfg, "nothing"), plain=OmegaConf.to_container(cfg.optim),
        )

    if __name__ == "__main__":
        main()
"""
FILES = {
    "conf/config.yaml": """
        defaults:
          - model: gpt2
          - optim@optim: adam
          - _self_
        batch: 8
        out: out/${model.name}-${batch}
        home: ${oc.env:HOME_X,/root}
    """,
    "conf/model/gpt2.yaml": "name: gpt2\nlayers: 12\n",
    "conf/model/llama.yaml": "# @package model\nname: llama\nlayers: 32\n",
    "conf/optim/adam.yaml": "lr: 1e-4\nbeta: 0.9\n",
}


def test_hydra_composes_defaults_and_overrides() -> None:
    line = "model=llama optim.lr=3e-5 ++batch=2 +total=9 hydra.run.dir=x"
    found = started(HYDRA, line, FILES)
    assert given(found) == {
        "name": "llama",
        "layers": 32,
        "lr": 3e-5,
        "batch": 2,
        "out": "out/llama-2",
        "total": 9,
        "has": False,
        "plain": {"lr": 3e-5, "beta": 0.9},
    }
    assert place_text(line, used(found).argument("lr")) == "3e-5"
    layers = used(found).argument("layers")
    assert isinstance(layers, Scalar)
    assert layers.place is not None
    assert (layers.place.path, layers.via) == ("conf/model/llama.yaml", "config-file")


def test_hydra_without_a_command_line_has_its_files() -> None:
    found = given(started(HYDRA, None, FILES))
    assert (found["name"], found["batch"], found["out"], found["total"]) == ("gpt2", 8, "out/gpt2-8", 7)


def test_hydra_with_another_config_and_unknown_words() -> None:
    files = {**FILES, "conf/small.yaml": "defaults: [config, _self_]\nbatch: 1\n"}
    found = given(started(HYDRA, "--config-name small model=llama optim.lr=?", files))
    assert (found["name"], found["batch"], found["lr"]) == ("llama", 1, "? environment variable X")


def test_hydra_without_its_files() -> None:
    assert str(given(started(HYDRA, "batch=2"))["batch"]).startswith("?")


def test_hydra_structured_configs() -> None:
    text = """
        from dataclasses import dataclass, field
        import hydra, lib
        from hydra.core.config_store import ConfigStore

        @dataclass
        class Optim:
            lr: float = 0.1

        @dataclass
        class Config:
            batch: int = 8
            optim: Optim = field(default_factory=Optim)

        ConfigStore.instance().store(name="base", node=Config)

        @hydra.main(config_path=None, config_name="base")
        def main(cfg):
            lib.use(batch=cfg.batch, lr=cfg.optim.lr)

        main()
    """
    assert given(started(text, "batch=2")) == {"batch": 2, "lr": 0.1}


def test_omegaconf() -> None:
    text = """
        import lib
        from omegaconf import OmegaConf
        base = OmegaConf.load("base.yaml")
        more = OmegaConf.create({"optim": {"lr": 0.5}, "name": "${model}-x"})
        cfg = OmegaConf.merge(base, more, OmegaConf.from_cli())
        cfg.seed = 3
        rate = OmegaConf.select(cfg, "optim.lr")
        lib.use(lr=cfg.optim.lr, name=cfg.name, seed=cfg.seed, layers=cfg.model_args["layers"], sel=rate)
    """
    files = {"base.yaml": "model: gpt2\noptim: {lr: 1, beta: 2}\nmodel_args:\n  layers: 12\n"}
    assert given(started(text, "model=llama model_args.layers=2", files)) == {
        "lr": 0.5,
        "name": "llama-x",
        "seed": 3,
        "layers": 2,
        "sel": 0.5,
    }
    assert given(started(text, None, files))["name"] == "gpt2-x"


def test_absl() -> None:
    text = """
        import lib
        from absl import app, flags
        FLAGS = flags.FLAGS
        flags.DEFINE_integer("batch_size", 32, "help")
        flags.DEFINE_bool("bf16", False, "help")
        flags.DEFINE_boolean("shuffle", True, "help")
        flags.DEFINE_list("targets", ["q"], "help")
        flags.DEFINE_enum("mode", "a", ["a", "b"], "help")
        _LR = flags.DEFINE_float("lr", 0.1, "help")
        def main(argv):
            lib.use(b=FLAGS.batch_size, bf16=FLAGS.bf16, s=FLAGS.shuffle, t=FLAGS.targets, m=FLAGS.mode, lr=_LR.value)
        app.run(main)
    """
    files = {"f.txt": "# flags\n--mode=b\n"}
    expected = {"b": 4, "bf16": True, "s": False, "t": ["q", "v"], "m": "b", "lr": 2.0}
    assert (
        given(started(text, "--batch_size=4 --bf16 --noshuffle -targets q,v --lr 2 --flagfile=f.txt", files))
        == expected
    )
    assert given(started(text, None))["b"] == 32


def test_ml_collections() -> None:
    text = """
        import lib
        from absl import app, flags
        from ml_collections import config_flags
        _CONFIG = config_flags.DEFINE_config_file("config", "configs/base.py")
        def main(argv):
            config = _CONFIG.value
            lib.use(lr=config.lr, layers=config.model.layers)
        app.run(main)
    """
    files = {
        "configs/base.py": """
            import ml_collections
            def get_config():
                config = ml_collections.ConfigDict()
                config.lr = 0.1
                config.model = ml_collections.ConfigDict()
                config.model.layers = 12
                return config
        """
    }
    assert given(started(text, "--config.lr=0.5", files)) == {"lr": 0.5, "layers": 12}


CONFIGURATOR = """
    import sys
    from ast import literal_eval

    for arg in sys.argv[1:]:
        if '=' not in arg:
            assert not arg.startswith('--')
            config_file = arg
            with open(config_file) as f:
                print(f.read())
            exec(open(config_file).read())
        else:
            assert arg.startswith('--')
            key, val = arg.split('=')
            key = key[2:]
            if key in globals():
                try:
                    attempt = literal_eval(val)
                except (SyntaxError, ValueError):
                    attempt = val
                assert type(attempt) == type(globals()[key])
                globals()[key] = attempt
            else:
                raise ValueError(f"Unknown config key: {key}")
"""
OVERRIDDEN = """
    import lib
    batch_size = 12
    block_size = 1024
    dtype = "bfloat16"
    compile = True
    exec(open("configurator.py").read())
    lib.use(batch_size=batch_size, block_size=block_size, dtype=dtype, compile=compile)
"""


def test_globals_that_the_command_line_overrides() -> None:
    files = {"configurator.py": CONFIGURATOR, "config/small.py": "batch_size = 4\nblock_size = 64\n"}
    line = "config/small.py --block_size=128 --dtype=float16 --compile=False"
    found = started(OVERRIDDEN, line, files)
    assert given(found) == {"batch_size": 4, "block_size": 128, "dtype": "float16", "compile": False}
    assert place_text(line, used(found).argument("block_size")) == "128"
    batch = used(found).argument("batch_size")
    assert isinstance(batch, Scalar)
    assert batch.place is not None
    assert batch.place.path == "config/small.py"
    assert given(started(OVERRIDDEN, "", files))["batch_size"] == 12
    assert given(started(OVERRIDDEN, None, files))["batch_size"] == 12


def test_constants_show_the_overridden_globals() -> None:
    files = {"configurator.py": CONFIGURATOR}
    found = started(OVERRIDDEN, "--batch_size=3", files)
    assert {entry.key: shown(entry.value) for entry in found.constants}["batch_size"] == 3


def test_globals_update() -> None:
    text = """
        import json, lib
        batch_size = 12
        globals().update(json.load(open("c.json")))
        lib.use(batch_size=batch_size)
    """
    assert given(started(text, None, {"c.json": '{"batch_size": 5}'})) == {"batch_size": 5}
