"""Python files that start programs: `subprocess.run([...])`, `os.system("…")`."""

from __future__ import annotations

from msgspec.structs import replace

from vramlint.surfaces.jobfiles import modal, requests, sagemaker
from vramlint.surfaces.jobfiles.scripts import Ran, ReadShell, Scripts, environment_of
from vramlint.surfaces.launch.launch import Workload
from vramlint.text import Document
from vramlint.values import Alternatives, Call, Command, Items, Option, Program, Scalar, Table

_STARTS = frozenset(
    (
        "subprocess.run",
        "subprocess.call",
        "subprocess.check_call",
        "subprocess.check_output",
        "subprocess.Popen",
        "os.system",
        "os.popen",
        "pty.spawn",
    )
)


def workloads_of_program(document: Document, program: Program, read: ReadShell) -> tuple[Workload, ...]:
    """What a Python file starts: jobs on SageMaker and other services, and commands on the machine that Modal gives."""
    scripts = Scripts(document, read)
    ran = Ran()
    for call in program.calls:
        if call.callee in _STARTS:
            ran = ran.and_then(_started(scripts, call))
    facts = modal.facts_of(program)
    own = (Workload(document.path, "", ran.commands, facts, ran.files),) if ran.commands else ()
    return (*own, *sagemaker.workloads(document, program), *requests.workloads(scripts, program))


def _started(scripts: Scripts, call: Call) -> Ran:
    command = call.argument("args", 0) or call.argument("cmd", 0) or call.argument("command", 0)
    variables = call.argument("env")
    environment = environment_of(variables) if isinstance(variables, Table) else ()
    folder = call.argument("cwd")
    folder = folder if isinstance(folder, Scalar) and isinstance(folder.value, str) else None
    in_shell = call.argument("shell")
    if isinstance(command, Items) and isinstance(in_shell, Scalar) and in_shell.value:
        ran = scripts.shell(command.values[:1], environment, folder)
    elif isinstance(command, Items):
        ran = scripts.words(command.values, call.place, environment, folder)
    else:
        ran = Ran()
        for text in command.options if isinstance(command, Alternatives) else (Option(command),) if command else ():
            found = scripts.shell([text.value], environment, folder)
            ran = ran.and_then(found._replace(commands=_under((text.condition,), found)))
    return ran._replace(commands=_under(call.conditions, ran))


def _under(conditions: tuple[str, ...], ran: Ran) -> tuple[Command, ...]:
    """The commands where they only run under conditions."""
    more = tuple(condition for condition in conditions if condition)
    return tuple(replace(found, conditions=(*more, *found.conditions)) for found in ran.commands)
