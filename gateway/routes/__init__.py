"""Routes, one noun a module; each gives a `router`."""
