/** Images on canvases. An image is size×size pixels of one channel, or of three: red, green and blue together. */

export function paint(canvas, image, size, x = 0, y = 0) {
  draw(canvas, size, x, y, (i) => colour(image, i, size));
}

/** An image in gray, and the pixels that are marked in a colour (a list of three bytes) that no gray is like. */
export function paintTinted(canvas, image, size, marked, tint) {
  draw(canvas, size, 0, 0, (i) => {
    const [red, green, blue] = colour(image, i, size);
    const gray = 0.299 * red + 0.587 * green + 0.114 * blue;
    return marked[i] ? tint : [gray, gray, gray];
  });
}

function colour(image, i, size) {
  if (image.length === size * size) return [255 * image[i], 255 * image[i], 255 * image[i]];
  return [255 * image[3 * i], 255 * image[3 * i + 1], 255 * image[3 * i + 2]];
}

function draw(canvas, size, x, y, colourOf) {
  const picture = new ImageData(size, size);
  for (let i = 0; i < size * size; i++) picture.data.set([...colourOf(i), 255], 4 * i);
  canvas.getContext("2d").putImageData(picture, x, y);
}

/** Make a canvas as large as an image, which clears it; one of that size is left alone. */
export function fit(canvas, side) {
  if (canvas.width !== side) canvas.width = canvas.height = side;
}

/** Many images in a square, some of them framed in a colour. */
export function mosaic(canvas, images, size, framed, frame) {
  const [columns, tile] = [Math.ceil(Math.sqrt(images.length)), size + 2];
  canvas.width = canvas.height = columns * tile;
  const context = canvas.getContext("2d");
  context.fillStyle = frame;
  for (const [i, image] of images.entries()) {
    const [x, y] = [(i % columns) * tile, Math.floor(i / columns) * tile];
    if (framed[i]) context.fillRect(x, y, tile, tile);
    paint(canvas, image, size, x + 1, y + 1);
  }
}
