"""What the constructs are made of. A part knows nothing of the constructs that use it."""
