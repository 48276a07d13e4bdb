"""The alert function: what a state machine knows about a failure, as a message a person can act on."""
