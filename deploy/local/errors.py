"""What can go wrong while starting or stopping the embedded stack.

StackError
├── NotReadyError        a program did not answer in time, or keeps dying
├── ConfigurationError   a setting cannot be used as it is
├── NotRunningError      the stack (or the program asked for) is not up
└── UnsupportedError     this machine does not allow what a part needs
"""


class StackError(Exception):
    """Base of everything this package raises on purpose."""


class NotReadyError(StackError):
    """A program did not become ready in time; the message ends with its last log lines."""


class ConfigurationError(StackError):
    """A setting given by the user cannot be used; the message names it."""


class NotRunningError(StackError):
    """The stack, or one program of it, is not running."""


class UnsupportedError(StackError):
    """The machine refuses something that a part cannot do without."""
