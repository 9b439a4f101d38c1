"""What the records say: numbers in, numbers out."""
