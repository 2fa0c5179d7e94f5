"""Segments of CMAF and MPEG-TS, and the tracks that are made of them."""
