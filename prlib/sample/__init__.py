"""The embedded sample: PNG sheets of real images, their labels and digests (README.md), and what made them."""
