"""Frameworks' own parsers, asked about files in environments of their own (`bench/parsers.py`)."""
