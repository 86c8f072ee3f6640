"""Wire formats as others define them: structs and framing. No behaviour, and nothing of the gateway's own domain."""
