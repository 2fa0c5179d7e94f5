"""The trace store: keeps recent spans in memory and shows them as pages.

An OTLP/gRPC receiver, a bounded store, and a web page; for the embedded stack only. Production sends its
spans to a collector of its own (``MILLRACE_OTLP_ENDPOINT``).
"""
