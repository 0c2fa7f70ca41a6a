"""vramlint: a static analyzer that tells whether an LLM training run fits its GPUs."""

__version__ = "0.1.0"
