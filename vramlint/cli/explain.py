"""`vramlint explain FILE`."""

from __future__ import annotations

import os
import sys
from argparse import Namespace

from vramlint import __version__
from vramlint.cli.errors import CLEAN, FINDINGS, UsageError
from vramlint.cli.output import write
from vramlint.cli.terminal import use_color
from vramlint.cli.work import check_paths
from vramlint.report import View, explain, explain_json


def run(options: Namespace) -> int:
    """Print what is known about the run in a file. Exits with 1 when the file tells nothing."""
    report = check_paths(options, [options.path], thorough=True, timeline=bool(options.timeline)).report
    stream = None if options.output_file else sys.stdout
    view = View(color=use_color(options.color, stream, os.environ), version=__version__)
    form = explain_json if options.format == "json" else explain
    write(form.render(options.path, report, view), options.output_file)
    if options.timeline:
        from vramlint.report import timeline

        if not any(job.high and job.high.log for job in report.jobs):
            raise UsageError(f"{options.path}: no simulated step whose timeline could be written")
        write(timeline.render(report.jobs), options.timeline)
    return CLEAN if report.jobs else FINDINGS
