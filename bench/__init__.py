"""Benches: how right and how fast vramlint is. Each prints a table, or with `--json` one object."""
