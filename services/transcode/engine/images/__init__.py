"""Stills: decoded within bounds, scaled, written in several formats, with a blur that stands in for them."""
