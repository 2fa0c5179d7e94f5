"""The back-end services of Millrace; each is a package that can run alone or beside the others."""
