"""The functions of a pipeline: objects of a bucket in, executions of a state machine out."""
