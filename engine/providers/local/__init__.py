"""A small real model that runs beside the server, without a network."""
