"""What a diagnosis looks for: one file a subject; `table` lists all rules in order."""
