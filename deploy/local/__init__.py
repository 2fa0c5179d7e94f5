"""The embedded stack: object storage, database, broker, edge and trace store on this machine.

Real servers from PyPI wheels, bound to 127.0.0.1, with all their data under one folder; for development,
demonstration and tests, never for production. ``python -m deploy.local up`` starts it from a shell;
:class:`deploy.local.stack.Stack` is the same thing for tests.
"""
