"""One cell of a run, from the suppressed examples to rows that a clean pass has measured."""
