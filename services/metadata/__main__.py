"""Runs the metadata service: `python -m services.metadata`."""

from services.metadata.app import serve
from services.runtime import process

if __name__ == "__main__":
    process.run({"metadata": serve})
