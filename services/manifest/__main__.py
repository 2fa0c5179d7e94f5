"""Runs the manifest service alone: `python -m services.manifest`."""

from services.manifest.app import serve
from services.runtime import process

if __name__ == "__main__":
    process.run({"manifest": serve})
