"""What every service needs to run, and no domain: process, transport, errors, settings, telemetry, stores."""
