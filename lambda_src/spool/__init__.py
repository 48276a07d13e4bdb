"""The functions of an error spool: failures are kept, looked at, and run again."""
