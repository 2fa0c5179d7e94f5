"""Generated from protos/media; see protos/generate.sh."""
