"""The version of the distribution, its only source: the build, the command line and every worker take it from here."""

from __future__ import annotations

__version__ = "0.2.0.dev0"
"""Between releases the next one's number with `.dev0`, so that no build of a clone passes for a release."""
