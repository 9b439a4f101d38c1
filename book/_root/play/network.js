/**
 * The paper's network (Table 1) on plain arrays: logits, and the gradient that an attack climbs.
 *
 * Images are Float32Arrays of [0, 1], size×size×channels, and taken one at a time: a batch would leave the cache.
 */

/** Tensors of a safetensors file by name: their shape, and their data as float32. */
export function readSafetensors(buffer) {
  const start = 8 + Number(new DataView(buffer).getBigUint64(0, true));
  const { __metadata__, ...entries } = JSON.parse(new TextDecoder().decode(buffer.slice(8, start)));
  const read = ([name, { dtype, shape, data_offsets }]) => {
    if (dtype !== "F32") throw new Error(`${name} must be of type F32; got ${dtype}`);
    const [from, to] = data_offsets.map((offset) => start + offset);
    return [name, { shape, data: new Float32Array(buffer.slice(from, to)) }];
  };
  return Object.fromEntries(Object.entries(entries).map(read));
}

/** a (rows×depth) times the transpose of b (columns×depth), columns being at least 4. */
function multiply(a, b, rows, columns, depth) {
  const product = new Float32Array(rows * columns);
  const [next, below] = rows > 1 ? [depth, columns] : [0, 0]; // a single row is taken twice
  // Two rows by four columns at a time: their sums stay in registers, and what is read serves several of them. The last
  // rows and columns may overlap the ones before them.
  for (let left = 0; left < columns; left += 4) {
    const column = Math.min(left, columns - 4);
    for (let top = 0; top < rows; top += 2) {
      const row = Math.max(Math.min(top, rows - 2), 0);
      let [s0, s1, s2, s3, t0, t1, t2, t3] = [0, 0, 0, 0, 0, 0, 0, 0];
      for (let i = row * depth, j = column * depth; i < (row + 1) * depth; i++, j++) {
        const upper = a[i];
        const lower = a[i + next];
        const b0 = b[j];
        const b1 = b[j + depth];
        const b2 = b[j + 2 * depth];
        const b3 = b[j + 3 * depth];
        s0 += upper * b0;
        s1 += upper * b1;
        s2 += upper * b2;
        s3 += upper * b3;
        t0 += lower * b0;
        t1 += lower * b1;
        t2 += lower * b2;
        t3 += lower * b3;
      }
      const place = row * columns + column;
      product.set([s0, s1, s2, s3], place);
      product.set([t0, t1, t2, t3], place + below);
    }
  }
  return product;
}

/** A layer is a matrix product: a convolution is one of the patches that its kernel sees, one in each row. */
class Layer {
  constructor({ data: weight, shape }, { data: bias }, side, channels, stride, padding) {
    const [outputs, depth] = [shape[0], weight.length / shape[0]];
    const kernel = shape[2] ?? side; // a dense layer is a convolution that sees everything
    const width = (side + 2 * padding - kernel) / stride + 1;
    Object.assign(this, { weight, bias, outputs, depth, side: width, inputs: side * side * channels });
    this.transposed = weight.map((_, i) => weight[(i % outputs) * depth + Math.floor(i / outputs)]);
    // Which input (channels last) each entry of the patches is. In the padding around the image it is none: -1.
    this.index = new Int32Array(width * width * depth).map((_, i) => {
      const [row, entry] = [Math.floor(i / depth), i % depth];
      const [channel, tap] = [Math.floor(entry / kernel ** 2), entry % kernel ** 2];
      const y = Math.floor(row / width) * stride - padding + Math.floor(tap / kernel);
      const x = (row % width) * stride - padding + (tap % kernel);
      return Math.min(x, y) < 0 || Math.max(x, y) >= side ? -1 : (y * side + x) * channels + channel;
    });
  }

  forward(input) {
    const patches = new Float32Array(this.index.length);
    for (let i = 0; i < patches.length; i++) patches[i] = this.index[i] < 0 ? 0 : input[this.index[i]];
    const output = multiply(patches, this.weight, this.side ** 2, this.outputs, this.depth);
    return output.map((x, i) => x + this.bias[i % this.outputs]);
  }

  backward(gradient) {
    const patches = multiply(gradient, this.transposed, this.side ** 2, this.depth, this.outputs);
    const result = new Float32Array(this.inputs);
    for (let i = 0; i < patches.length; i++) if (this.index[i] >= 0) result[this.index[i]] += patches[i];
    return result;
  }
}

export class Network {
  constructor(tensors, size) {
    let [side, channels] = [size, tensors["0.weight"].shape[1]];
    // Name, stride and padding; the names count the ReLUs between the layers.
    this.layers = [["0", 2, 3], ["2", 2, 0], ["4", 1, 0], ["7", 1, 0]].map(([name, stride, padding]) => {
      const layer = new Layer(tensors[`${name}.weight`], tensors[`${name}.bias`], side, channels, stride, padding);
      ({ side, outputs: channels } = layer);
      return layer;
    });
  }

  /** What each layer gives, before its ReLU; the last are the ten logits. */
  trace(image) {
    const outputs = [];
    for (const layer of this.layers) outputs.push(layer.forward(outputs.at(-1)?.map((x) => Math.max(x, 0)) ?? image));
    return outputs;
  }

  logits(image) {
    return this.trace(image).at(-1);
  }

  /** The gradient, with respect to the image, of the cross-entropy with a label. */
  gradient(image, label) {
    const outputs = this.trace(image);
    let gradient = softmax(outputs.pop()).map((p, i) => p - (i === label));
    for (const layer of this.layers.toReversed()) {
      gradient = layer.backward(gradient);
      const before = outputs.pop();
      if (before) gradient = gradient.map((g, i) => (before[i] > 0 ? g : 0));
    }
    return gradient;
  }
}

/** Class probabilities of logits. */
export function softmax(logits) {
  const odds = Array.from(logits, (x) => Math.exp(x - Math.max(...logits)));
  const sum = odds.reduce((a, b) => a + b);
  return odds.map((x) => x / sum);
}

export function argmax(values) {
  return values.indexOf(Math.max(...values));
}
