"""The parts of `bench.images`: the photo, the programs that scale it, and what is said of their pictures."""
