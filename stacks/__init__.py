"""Example stacks that deploy. They use only the public API of the library."""
