/** Computes what the page shows, off its thread. Only the latest question is answered to the end. */

import { attack, generator, redraw } from "./method.js";
import { Network, argmax, readSafetensors, softmax } from "./network.js";

const networks = {};
let latest;
let last = {}; // the last attacked image, and the question it answers: a new draw needs no new attack

async function load(name, size) {
  const response = await fetch(new URL(`${name}.safetensors`, import.meta.url));
  if (!response.ok) throw new Error(`the server answers ${response.status} ${response.statusText}`.trim());
  const [total, parts, reader] = [Number(response.headers.get("content-length")), [], response.body.getReader()];
  for (let received = 0, part = await reader.read(); !part.done; part = await reader.read()) {
    parts.push(part.value);
    received += part.value.length;
    postMessage({ loading: name, received, total });
  }
  return new Network(readSafetensors(await new Blob(parts).arrayBuffer()), size);
}

onmessage = async ({ data: question }) => {
  const { id, image, size, thresholds, ranges } = question;
  const name = `${question.dataset}-${question.network}`;
  latest = id;
  const overtaken = () => new Promise((resolve) => setTimeout(() => resolve(latest !== id)));
  try {
    const network = await (networks[name] ??= load(name, size));
    if (await overtaken()) return;
    const look = (seen) => ({ image: seen, odds: softmax(network.logits(seen)) });
    const clean = look(image);

    const { draws, ...options } = question.attack ?? { steps: 0 };
    const key = JSON.stringify([name, question.attack, draws && thresholds, Array.from(image)]);
    if (key !== last.key) {
      const random = generator(1); // independent of what is drawn after the attack
      const see = (seen) => Array.from({ length: draws }, () => redraw(seen, thresholds, ranges, random));
      let [adversarial, step] = [image, 0];
      for (adversarial of attack(network, image, argmax(clean.odds), draws ? { ...options, see } : options)) {
        postMessage({ id, step: ++step, steps: options.steps });
        if (await overtaken()) return;
      }
      last = { key, image: adversarial };
    }

    const answer = { id, clean, attacked: look(last.image), draws: [] };
    const random = generator(question.seed);
    while (answer.draws.length < question.draws) {
      answer.draws.push(look(redraw(answer.attacked.image, thresholds, ranges, random)));
      if (answer.draws.length === 1) postMessage({ ...answer, shown: true });
      if (await overtaken()) return;
    }
    postMessage({ ...answer, shown: true, done: true });
  } catch (error) {
    delete networks[name];
    if (latest === id) postMessage({ id, error: error.message });
  }
};
