"""gRPC: server pipeline, client channels, validation, pages of lists, masks."""
