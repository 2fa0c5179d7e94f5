"""The little of each codec's bitstream that packaging needs."""
