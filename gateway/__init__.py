"""HTTP gateway: who asks, routes, problem+json, the event stream and the pages; all work is done by the services."""
