"""A defence of one's own in the book's table: a file with a function, attacked as the book's networks are.

The way through it: ``file.read`` makes an ``Own`` of the file; ``prlib.attacks.known.Known`` finds out what its
attackers can use; ``measure.suite`` says what they try; ``measure.measure`` attacks and judges; ``book.book_rows``
finds the published accuracies on the same images.
"""
