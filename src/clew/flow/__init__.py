"""From recorded events to the hops of one request: matching, activations, reach, path, without privileges."""
