"""The metadata service: the state of media, uploads and tasks, and the only service that talks to PostgreSQL."""
