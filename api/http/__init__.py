"""HTTP below the routes: protocol, middleware, authentication, errors, server-sent events."""
