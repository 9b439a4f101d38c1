/** The redraw and the attacks, as prlib.redraw and prlib.attacks have them. Images are as in network.js. */

/** Every pixel as a uniform random value of the range that the thresholds sort it into, rounded to two decimals. */
export function redraw(image, thresholds, ranges, random) {
  return image.map((x) => {
    let place = 0;
    for (const threshold of thresholds) place += x > threshold; // on a threshold it keeps the lower range
    const [low, high] = ranges[place];
    return Math.round(100 * (low + random() * (high - low))) / 100;
  });
}

/**
 * Steps of a size along the sign of the gradient, each clipped to within epsilon of the image: BIM, image by image.
 *
 * A single step of size epsilon is FGSM. `see` says what the network is shown of an image. Where that is random it gives
 * several draws, and their summed gradients stand for the gradient at the image (EOT and straight-through BPDA).
 */
export function* attack(network, image, label, { epsilon, size, steps, see = (x) => [x] }) {
  for (let adversarial = image, step = 0; step < steps; step++) {
    const gradients = see(adversarial).map((seen) => network.gradient(seen, label));
    adversarial = adversarial.map((x, i) => {
      const sign = Math.sign(gradients.reduce((sum, gradient) => sum + gradient[i], 0));
      const near = Math.min(Math.max(x + size * sign, image[i] - epsilon), image[i] + epsilon);
      return Math.min(Math.max(near, 0), 1);
    });
    yield adversarial;
  }
}

/** Uniform random numbers in [0, 1) from a seed: Tommy Ettinger's mulberry32. */
export function generator(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), seed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
