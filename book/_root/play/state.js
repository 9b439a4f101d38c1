/** Everything that the page shows follows from its state: one flat object, which an address can hold. */

/** The story: what each step sets; all else is the dataset's usual attack and redraw. */
const STEPS = {
  fool: { network: "undefended", redraws: false, knows: false, tint: false },
  redraw: { network: "redrawn", redraws: true, knows: false, tint: true },
  tell: { network: "redrawn", redraws: true, knows: true, tint: true },
};

/** The state in which a dataset is first shown: the first step of the story. */
export function initial(settings, dataset) {
  const { start, epsilon, steps, thresholds } = settings.datasets[dataset];
  const [lower, upper] = thresholds;
  return { dataset, image: start, drawing: "", attack: "BIM", epsilon, steps, lower, upper, seed: 1, ...STEPS.fool };
}

/** The same choices for another dataset, with its own images, ε and thresholds. */
export function moved(state, settings, dataset) {
  const { network, attack, steps, redraws, knows, tint } = state;
  return { ...initial(settings, dataset), network, attack, steps, redraws, knows, tint };
}

/** The state of a step of the story. */
export function storied(settings, dataset, step) {
  const steps = STEPS[step].knows && { steps: settings.knowing.steps };
  return { ...initial(settings, dataset), ...STEPS[step], ...steps };
}

/** The name of the step that a state shows, if it shows one, of whatever image; a tint changes no answer. */
export function stepOf(state, settings) {
  const { image, drawing, seed, tint, ...choices } = state;
  const shows = (step) => {
    const set = storied(settings, state.dataset, step);
    return Object.keys(choices).every((key) => choices[key] === set[key]);
  };
  return Object.keys(STEPS).find(shows);
}

/** The part of an address after #: what differs from the dataset's first state, and the dataset if it is another. */
export function toHash(state, settings) {
  const usual = { ...initial(settings, state.dataset), dataset: Object.keys(settings.datasets)[0] };
  const differing = Object.entries(state).filter(([key, value]) => value !== usual[key]);
  const plain = (value) => (typeof value === "boolean" ? Number(value) : value);
  return new URLSearchParams(differing.map(([key, value]) => [key, plain(value)])).toString();
}

/** The state of an address. One that says nothing readable throws an Error, whose sentence is for the reader. */
export function fromHash(hash, settings) {
  const given = Object.fromEntries(new URLSearchParams(hash));
  const names = Object.keys(settings.datasets);
  const dataset = given.dataset ?? names[0];
  const { size, channels, slider } = settings.datasets[dataset] ?? settings.datasets[names[0]];
  const known = rules(names, size, channels, slider.max);
  const read = ([key, text]) => {
    if (!known[key]) throw new Error(`The address names “${key}”; it may name ${Object.keys(known).join(", ")}.`);
    const [allowed, parse] = known[key];
    const value = parse(text);
    if (value === undefined) throw new Error(`The address says ${key} = “${text}”; it must be ${allowed}.`);
    return [key, value];
  };
  read(["dataset", dataset]); // the other rules depend on it
  const stated = Object.fromEntries(Object.entries(given).map(read));
  const state = { ...initial(settings, dataset), ...stated };
  if (state.lower > state.upper) throw new Error("The address says a lower threshold above the upper one.");
  return state;
}

/** What each part of an address may be, in words, and how it is read: undefined is what it may not be. */
function rules(names, size, channels, largest) {
  const oneOf = (words) => [`one of ${words.join(", ")}`, (text) => words.find((word) => word === text)];
  const number = (low, high, whole) => [
    `a ${whole ? "whole " : ""}number from ${low} to ${high}`,
    (text) => {
      const value = text.trim() ? Number(text) : NaN;
      return value >= low && value <= high && (!whole || Number.isInteger(value)) ? value : undefined;
    },
  ];
  const yesOrNo = ["1 or 0", (text) => ({ 0: false, 1: true })[text]];
  const drawing = [`a drawing of ${size} by ${size} pixels`, (text) => (isDrawing(text, size) ? text : undefined)];
  return {
    dataset: oneOf(names),
    image: number(0, 9, true),
    ...(channels === 1 && { drawing }),
    network: oneOf(["undefended", "redrawn"]),
    attack: oneOf(["none", "FGSM", "BIM"]),
    epsilon: number(0, largest),
    steps: number(1, 40, true),
    lower: number(0, 1),
    upper: number(0, 1),
    redraws: yesOrNo,
    knows: yesOrNo,
    tint: yesOrNo,
    seed: number(1, 1e9, true),
  };
}

/* Images as text: bytes in base64, its alphabet the one for addresses. */

const isDrawing = (text, size) => /^[\w-]+$/.test(text) && text.length === Math.ceil((size * size * 4) / 3);

export function toText(image) {
  const bytes = String.fromCharCode(...Array.from(image, (value) => Math.round(255 * value)));
  return btoa(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** Pixels of [0, 1], row by row, the channels of each together. */
export function toImage(text) {
  return Float32Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (byte) => byte.charCodeAt() / 255);
}
