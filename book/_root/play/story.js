/** What to see, in a sentence, computed from what is shown. */

import { argmax } from "./network.js";

export const percent = (share) => `${Math.round(100 * share)}%`;
const count = (n) => n.toLocaleString("en");

/** How many of the draws name each class. */
export function votesOf(draws) {
  const votes = draws[0].odds.map(() => 0);
  for (const { odds } of draws) votes[argmax(odds)]++;
  return votes;
}

/** `shown` is the worker's answer, with the names of the classes and how many of how many pixels have crossed. */
const SENTENCES = {
  fool({ epsilon }, { names, clean, attacked }) {
    const [before, after] = [clean, attacked].map(({ odds }) => names[argmax(odds)]);
    const change = `${Number((100 * epsilon).toFixed(1))}%`;
    const says = before === after ? `still says ${before}` : `says ${after} instead of ${before}`;
    return `The attack changes no pixel by more than ${change} of the way from black to white, and the network ${says}.`;
  },
  redraw(state, shown) {
    const { crossed, pixels } = shown;
    return `The redraw hides what the attack did to all but ${count(crossed)} of ${count(pixels)} pixels, and ${verdict(shown)}`;
  },
  tell(state, shown) {
    const { crossed, pixels } = shown;
    return `The attacker now knows the redraw and moves ${count(crossed)} of ${count(pixels)} pixels across a threshold, and ${verdict(shown)}`;
  },
};

function verdict({ names, clean, draws }) {
  const votes = votesOf(draws);
  const [before, after, n] = [argmax(clean.odds), argmax(votes), Math.max(...votes)];
  const among = `in ${n} of ${draws.length} draws`;
  if (before === after) return `the network says ${names[before]} ${among}: the defence holds here.`;
  return `the network says ${names[after]} instead of ${names[before]} ${among}: the defence fails here.`;
}

function experiment({ attack, epsilon, knows }, { names, clean, attacked, draws }) {
  const named = ({ odds }) => `${names[argmax(odds)]} (${percent(Math.max(...odds))})`;
  const knowing = knows && draws.length ? ", which knows the redraw," : "";
  const parts = [`The network says ${named(clean)}.`];
  if (attack !== "none") parts.push(`Attacked by ${attack}${knowing} with ε = ${Number(epsilon.toFixed(3))}: ${named(attacked)}.`);
  if (draws.length) {
    const votes = votesOf(draws);
    parts.push(`Redrawn: ${names[argmax(votes)]} in ${Math.max(...votes)} of ${draws.length} draws.`);
  }
  return parts.join(" ");
}

/** The sentence of a step of the story, or of the reader's own experiment. */
export function tell(step, state, shown) {
  return (SENTENCES[step] ?? experiment)(state, shown);
}
