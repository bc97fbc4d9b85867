"""Everything Errata raises on purpose.

ErrataError
├── BadInput            a request, file, config or option that cannot be right
├── UnsupportedModel    a model family without a row in the architecture table
├── MissingArtifact     something to be built beforehand is absent; the message names the command
├── Diverged            a weight or an update became NaN or infinite by editing: a result, not a crash
└── RunInUse            another process works in the same run directory
Interrupted             Ctrl-C while runs were worked on; a KeyboardInterrupt

Messages name the thing, what was found, what would do, and the next command. The command line prints
them without a traceback and exits with code 2.
"""


class ErrataError(Exception):
    """Base of all errors that Errata raises on purpose."""


class BadInput(ErrataError):
    """A request, file, config or option that cannot be right."""


class UnsupportedModel(ErrataError):
    """A model family without a row in the architecture table."""


class MissingArtifact(ErrataError):
    """Something to be built beforehand is absent; the message names the command that builds it."""


class Diverged(ErrataError):
    """A weight or an update became NaN or infinite by editing."""


class RunInUse(ErrataError):
    """Another process works in the same run directory."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C: what was finished is kept. The message names the command that goes on; the exit code is 130."""
