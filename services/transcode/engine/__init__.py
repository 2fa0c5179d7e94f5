"""The media engine: decodes, scales, encodes and writes media in sandboxed child processes.

The seam is `run`: `probe` and `execute` take a `ByteSource` and hand back values and artifacts. `children`,
`fork_server`, `child`, `sandbox`, `wire` and `channel` are the way to a child and back. What lies in folders runs
inside it, without credentials, network or file system: it reads an original (`reading`), makes pictures, sound or
stills of it (`video`, `sound`, `images`), and packages what encoders give (`codecs`, `packaging`).
"""
