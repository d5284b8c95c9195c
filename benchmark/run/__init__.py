"""From what a user asked for to a directory of rows: plan, fitted defenses, scheduler, store."""
