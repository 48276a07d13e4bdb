"""Tools to look at a state machine: as plain ASL, as a drawing, in a second interpreter, through a validator.

Not published: the tests and the demo use them.
"""
