"""`make demo`: deploys the example stacks to an embedded AWS and drives real work through them.

Nothing here is specific to a construct but `scenarios/`, which has one module for each part of the library.
"""
