// Predicts an image in this page, which contains the network, its card and onnxruntime-web.

async function unpack(id) {
  const packed = await fetch(`data:;base64,${byId(id).textContent}`);
  return new Response(packed.body.pipeThrough(new DecompressionStream("gzip")));
}

async function load() {
  const ids = ["code", "wasm", "model", "card"];
  const [code, wasm, model, card] = await Promise.all(ids.map(unpack));
  const script = new Blob([await code.arrayBuffer()], { type: "text/javascript" });
  const ort = await import(URL.createObjectURL(script));
  ort.env.wasm.numThreads = 1; // several threads need HTTP headers
  ort.env.wasm.wasmBinary = await wasm.arrayBuffer();
  const session = await ort.InferenceSession.create(await model.arrayBuffer());
  return [ort.Tensor, session, await card.json()];
}

const loading = load();

async function predictImage(image, article) {
  const [Tensor, session, { input: { shape: [, size] }, margin, outputs }] = await loading;
  const bitmap = await createImageBitmap(image, { colorSpaceConversion: "none" }).catch(() => {
    throw new Error("this browser cannot read the image");
  });
  const { width, height } = bitmap;
  const [slider, picture] = article.querySelectorAll("input, img");
  slider.parentNode.hidden = false;
  slider.oninput = () => showPrediction(article, image);
  picture.onclick = ({ offsetX, offsetY }) => {
    article.centre = [offsetX / picture.width, offsetY / picture.height];
    slider.oninput();
  };
  const side = slider.value * Math.min(width, height);
  const [x, y] = article.centre ?? [0.5, 0.5];
  const box = [x * width - side / 2, y * height - side / 2, side, side];
  const face = new Tensor("uint8", cropFace(bitmap, box, margin, size), [1, size, size, 3]);
  const predicted = Object.entries(await session.run({ image: face }));
  const values = Object.fromEntries(predicted.map(([head, { data }]) => [head, [...data]]));
  return { outputs, size: [width, height], reason: "", faces: [{ box, ...values }] };
}

// RGB bytes of a face, as `crop_and_resize` in affect_jax/data/face_images.py.
function cropFace(bitmap, [x, y, side], margin, size) {
  const [left, top] = [x, y].map((start) => Math.max(0, Math.round(start - margin * side)));
  const end = (start, limit) => Math.min(limit, Math.round(start + side + margin * side));
  const [width, height] = [end(x, bitmap.width) - left, end(y, bitmap.height) - top];
  const [columns, rows] = Math.min(width, height) < size ? [size, size] : [width, height];
  const context = new OffscreenCanvas(columns, rows).getContext("2d");
  context.drawImage(bitmap, left, top, width, height, 0, 0, columns, rows); // enlarges bilinearly
  const { data } = context.getImageData(0, 0, columns, rows);
  const overlap = (pixel, from, to) => Math.min(to, pixel + 1) - Math.max(from, pixel);
  return Uint8Array.from({ length: size * size * 3 }, (_, index) => { // the mean over its area
    const [row, column] = [Math.floor(index / 3 / size), Math.floor(index / 3) % size];
    const [above, below] = [row * rows / size, (row + 1) * rows / size];
    const [first, last] = [column * columns / size, (column + 1) * columns / size];
    let sum = 0;
    for (let i = Math.floor(above); i < below; i++) {
      const share = overlap(i, above, below);
      for (let j = Math.floor(first); j < last; j++) {
        sum += share * overlap(j, first, last) * data[4 * (i * columns + j) + index % 3];
      }
    }
    return Math.round(sum / (below - above) / (last - first));
  });
}
