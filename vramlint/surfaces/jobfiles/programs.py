"""Python files that start programs: `subprocess.run([...])`, `os.system("…")`."""

from __future__ import annotations

from dataclasses import replace

from vramlint.surfaces.jobfiles import modal, requests, sagemaker
from vramlint.surfaces.jobfiles.scripts import Ran, ReadShell, Scripts, environment_of
from vramlint.surfaces.launch.launch import Workload
from vramlint.text import Document
from vramlint.values import Call, Items, Program, Scalar, Table

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
    if isinstance(command, Items):
        ran = scripts.words(command.values, call.place, environment, folder)
    else:
        ran = scripts.shell([command], environment, folder)
    conditional = (replace(found, conditions=(*call.conditions, *found.conditions)) for found in ran.commands)
    return ran._replace(commands=tuple(conditional)) if call.conditions else ran
