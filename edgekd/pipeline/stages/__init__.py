"""The stages: one transformation a file. A stage imports no other stage, not the store, and not the command line."""
