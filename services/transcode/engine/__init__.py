"""The media engine: decodes, scales, encodes and writes media in sandboxed child processes.

The seam is `run`: `probe` and `execute` take a `ByteSource` and hand back values and artifacts.
Everything else in this package runs inside the child, which holds no credentials, no network and no file
system.
"""
