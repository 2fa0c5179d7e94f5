"""`python -m gateway`."""

from gateway.app import serve
from services.runtime import process

if __name__ == "__main__":
    process.run({"gateway": serve})
