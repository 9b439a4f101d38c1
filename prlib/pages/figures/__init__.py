"""Figures, drawn from records and from the models themselves; every one reads in grayscale, and on a phone."""

from prlib.pages.figures import method, numbers, results, seeds
from prlib.pages.figures.drawing import drawn

accuracy_over_epochs = drawn(results.accuracy_over_epochs)
all_numbers = drawn(numbers.all_numbers)
architecture = drawn(method.architecture)
cases = drawn(method.cases)
examples = drawn(method.examples)
exposure_maps = drawn(method.exposure_maps)
exposure_over_epsilon = drawn(method.exposure_over_epsilon)
letter_c = drawn(method.letter_c)
noise_beside_redraw = drawn(method.noise_beside_redraw)
over_epsilon = drawn(results.over_epsilon)
over_steps = drawn(results.over_steps)
pairs = drawn(method.pairs)
spread = drawn(seeds.spread)
staircase = drawn(method.staircase)
staircases = drawn(method.staircases)
then_and_now = drawn(results.then_and_now)
under_attack = drawn(results.under_attack)
