/** Computes what the page shows, off its thread. Only the latest question is answered to the end. */

import { attack, generator, redraw } from "./method.js";
import { Network, argmax, readSafetensors, softmax } from "./network.js";

const DRAWS_PER_STEP = 4; // of an attacker who knows the redraw
const networks = {};
let latest;
let last = {}; // the last attacked image, and the question it answers: a new draw needs no new attack

async function load(name) {
  const response = await fetch(new URL(`${name}.safetensors`, import.meta.url));
  if (!response.ok) throw new Error(`the server answers ${response.status} ${response.statusText}`.trim());
  const [total, parts, reader] = [Number(response.headers.get("content-length")), [], response.body.getReader()];
  for (let received = 0, part = await reader.read(); !part.done; part = await reader.read()) {
    parts.push(part.value);
    received += part.value.length;
    postMessage({ received, total });
  }
  return new Network(readSafetensors(await new Blob(parts).arrayBuffer()));
}

onmessage = async ({ data: question }) => {
  const { id, image, thresholds, ranges } = question;
  latest = id;
  const overtaken = () => new Promise((resolve) => setTimeout(() => resolve(latest !== id)));
  try {
    const network = await (networks[question.network] ??= load(question.network));
    if (await overtaken()) return;
    const look = (seen) => ({ image: seen, odds: softmax(network.logits(seen)) });
    const clean = look(image);

    const { knows, ...options } = question.attack ?? { steps: 0 };
    const key = JSON.stringify([question.network, question.attack, knows && thresholds, Array.from(image)]);
    if (key !== last.key) {
      const random = generator(1); // independent of what is drawn after the attack
      const see = (seen) => Array.from({ length: DRAWS_PER_STEP }, () => redraw(seen, thresholds, ranges, random));
      let adversarial = image;
      for (adversarial of attack(network, image, argmax(clean.odds), knows ? { ...options, see } : options)) {
        if (await overtaken()) return;
      }
      last = { key, image: adversarial };
    }

    const answer = { id, clean, attacked: look(last.image), draws: [] };
    const random = generator(question.seed);
    while (answer.draws.length < question.draws) {
      answer.draws.push(look(redraw(answer.attacked.image, thresholds, ranges, random)));
      if (answer.draws.length === 1) postMessage(answer);
      if (await overtaken()) return;
    }
    postMessage({ ...answer, done: true });
  } catch (error) {
    delete networks[question.network];
    if (latest === id) postMessage({ id, error: error.message });
  }
};
