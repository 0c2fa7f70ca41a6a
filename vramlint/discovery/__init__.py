"""Discovery: from the paths that a user names to the files worth reading."""

from vramlint.discovery.decoding import decode
from vramlint.discovery.walk import Discovered, Skipped, SourceFile, discover

__all__ = ["Discovered", "Skipped", "SourceFile", "decode", "discover"]
