"""Upload service: coordinates uploads between clients and object storage; file bytes never pass here."""
