"""What can go wrong because of what the user asked for.

BenchError
├── UsageError        an option, name, spec or file that cannot be served (exit code 2)
└── RunDirectoryError a run directory that belongs to another plan or is damaged (exit code 2)
"""


class BenchError(Exception):
    """Base of all errors that are shown to the user as one message, without a traceback."""


class UsageError(BenchError):
    """Something was asked for that does not exist or does not fit; the message says what does."""


class RunDirectoryError(BenchError):
    """The output directory cannot be used for this plan; nothing in it was changed."""
