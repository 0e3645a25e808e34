"""The wire between worker and coordinator: message conversion, tensor framing, shared memory, errors."""
