"""The words of the reference, as tables: a sentence and an example for each field, parameter, operation and error."""
