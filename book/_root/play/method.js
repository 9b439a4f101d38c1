/** The redraw and the attacks, as prlib.redraw and prlib.attacks have them. Images are as in network.js. */

/** Which range a pixel is sorted into: how many thresholds lie below it; on a threshold it keeps the lower range. */
function place(x, thresholds) {
  let below = 0;
  for (const threshold of thresholds) below += x > threshold;
  return below;
}

/** Every pixel as a uniform random value of the range that the thresholds sort it into, rounded to two decimals. */
export function redraw(image, thresholds, ranges, random) {
  return image.map((x) => {
    const [low, high] = ranges[place(x, thresholds)];
    return Math.round(100 * (low + random() * (high - low))) / 100;
  });
}

/** Of each pixel, whether an attack has moved it, in at least one of its channels, across a threshold. */
export function crossings(before, after, thresholds, channels) {
  return Array.from({ length: before.length / channels }, (_, pixel) => {
    const values = Array.from({ length: channels }, (_, channel) => pixel * channels + channel);
    return values.some((i) => place(before[i], thresholds) !== place(after[i], thresholds));
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
