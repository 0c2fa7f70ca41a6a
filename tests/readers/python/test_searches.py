"""Searches over settings: what a trial may be given, and one trial alone."""

from __future__ import annotations

from textwrap import dedent

import pytest

from vramlint.readers.python import read_program
from vramlint.text import Document
from vramlint.values import Alternatives, Program, Scalar, Value


def program(source: str, **chosen: str) -> Program:
    found, problems = read_program(Document.of("train.py", dedent(source)), {}, chosen=chosen)
    assert not problems
    assert found is not None
    return found


def argument(found: Program, callee: str, name: str) -> Value | None:
    call = next(call for call in found.calls if call.callee.endswith(callee))
    bound = [keyword.value for keyword in call.bindings if keyword.name == name]
    return bound[-1] if bound else call.argument(name)


def values(value: Value | None) -> list[object]:
    options = tuple(option.value for option in value.options) if isinstance(value, Alternatives) else (value,)
    return sorted((option.value if isinstance(option, Scalar) else str(option) for option in options), key=str)


OPTUNA = """\
    import optuna
    from transformers import TrainingArguments

    def objective(trial):
        size = trial.suggest_categorical("size", [2, 8])
        rate = trial.suggest_float("rate", 1e-5, 1e-3, log=True)
        steps = trial.suggest_int("steps", 1, 16)
        return TrainingArguments("out", per_device_train_batch_size=size, learning_rate=rate,
                                 gradient_accumulation_steps=steps)

    optuna.create_study().optimize(objective, n_trials=10)
    """

SWEEP = """\
    import wandb
    from transformers import TrainingArguments

    sweep = {"method": "random", "parameters": {"size": {"values": [2, 8]}, "rate": {"min": 1e-5, "max": 1e-3}}}
    sweep["parameters"]["steps"] = {"distribution": "q_uniform", "min": 1, "max": 16}

    def main():
        with wandb.init(config={"seed": 1}):
            config = wandb.config
            TrainingArguments("out", per_device_train_batch_size=config.size, learning_rate=config["rate"],
                              gradient_accumulation_steps=config.steps)

    wandb.agent(wandb.sweep(sweep, project="x"), function=main)
    """

RAY = """\
    from ray import tune
    from transformers import TrainingArguments

    def train(config, data=None):
        TrainingArguments("out", per_device_train_batch_size=config["size"], learning_rate=config["rate"],
                          gradient_accumulation_steps=config["steps"])

    space = {"size": tune.grid_search([2, 8]), "rate": tune.loguniform(1e-5, 1e-3), "steps": tune.randint(1, 17)}
    tune.Tuner(tune.with_resources(tune.with_parameters(train, data=1), {"gpu": 1}), param_space=space).fit()
    """

TRAINER = """\
    from transformers import Trainer, TrainingArguments

    trainer = Trainer(model_init=make, args=TrainingArguments("out"))

    def space(trial):
        return {
            "per_device_train_batch_size": trial.suggest_categorical("size", [2, 8]),
            "learning_rate": trial.suggest_float("rate", 1e-5, 1e-3),
            "gradient_accumulation_steps": trial.suggest_int("steps", 1, 16),
        }

    trainer.hyperparameter_search(hp_space=space, backend="optuna")
    """


@pytest.mark.parametrize("source", [OPTUNA, SWEEP, RAY, TRAINER], ids=["optuna", "sweep", "ray", "trainer"])
def test_a_trial_is_given_one_of_several_or_the_end_of_a_range(source: str) -> None:
    found = program(source)

    assert values(argument(found, "TrainingArguments", "per_device_train_batch_size")) == [2, 8]
    assert values(argument(found, "TrainingArguments", "learning_rate")) == [0.001, 1e-05]
    assert values(argument(found, "TrainingArguments", "gradient_accumulation_steps")) == [1, 16]
    assert dict(found.searches)["size"] == ("size = 2", "size = 8")


@pytest.mark.parametrize("source", [OPTUNA, SWEEP, RAY, TRAINER], ids=["optuna", "sweep", "ray", "trainer"])
def test_one_trial_has_its_value(source: str) -> None:
    found = program(source, size="size = 8")

    assert values(argument(found, "TrainingArguments", "per_device_train_batch_size")) == [8]
    assert values(argument(found, "TrainingArguments", "gradient_accumulation_steps")) == [1, 16]


def test_the_trainers_own_space_varies_the_batch() -> None:
    found = program(TRAINER.replace("hp_space=space, ", ""))

    assert values(argument(found, "TrainingArguments", "per_device_train_batch_size")) == [16, 32, 4, 64, 8]
    assert any(call.callee == ".train" for call in found.calls)


def test_a_long_list_of_numbers_is_its_ends() -> None:
    sizes = list(range(1, 20))

    found = program(OPTUNA.replace("[2, 8]", str(sizes)))

    assert values(argument(found, "TrainingArguments", "per_device_train_batch_size")) == [1, 19]


def test_what_a_run_is_initialised_with_holds_where_no_sweep_says_otherwise() -> None:
    found = program(
        """\
        import wandb
        from transformers import TrainingArguments

        run = wandb.init(config={"size": 4, "steps": 2})
        wandb.config.update({"steps": 3}, allow_val_change=True)
        TrainingArguments("out", per_device_train_batch_size=run.config.size,
                          gradient_accumulation_steps=wandb.config.steps)
        """
    )

    assert values(argument(found, "TrainingArguments", "per_device_train_batch_size")) == [4]
    assert values(argument(found, "TrainingArguments", "gradient_accumulation_steps")) == [3]
    assert found.searches == ()


def test_other_methods_that_suggest_something_are_no_search() -> None:
    found = program("bot = load()\nanswer = bot.suggest_answer('size', [1, 2])\n")

    assert found.searches == ()
