"""Command-line parsers, a module a family, and the words that they are given."""
