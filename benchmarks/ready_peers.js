// Predicts photographs with a JavaScript package, for benchmarks/ready.py.
//   node ready_peers.js face-api|human NODE_MODULES < paths of JPEG files, one a line
// Prints one JSON object a line: the predicted expression ("" without a face), and milliseconds of
// processor time from the file to the answer. If face-api detects no face, the image is the face; if
// Human detects none, it searches again in the image with a border.
const fs = require("fs");
const path = require("path");

const [name, modules] = process.argv.slice(2);
const load = (file) => require(path.resolve(modules, file));
const jpeg = load("jpeg-js");
const wasm = load("@tensorflow/tfjs-backend-wasm");
const wasmFolder = path.resolve(modules, "@tensorflow/tfjs-backend-wasm/dist") + "/";
wasm.setWasmPaths(wasmFolder);

async function createFaceApi() {
  const api = load("@vladmandic/face-api/dist/face-api.node-wasm.js");
  const models = path.resolve(modules, "@vladmandic/face-api/model");
  await api.tf.setBackend("wasm");
  await api.tf.ready();
  await api.nets.ssdMobilenetv1.loadFromDisk(models);
  await api.nets.faceExpressionNet.loadFromDisk(models);
  const options = new api.SsdMobilenetv1Options({ minConfidence: 0.1 }); // as in its demo
  return async (pixels, height, width) => {
    const image = api.tf.tensor3d(pixels, [height, width, 3], "int32");
    const face = await api.detectSingleFace(image, options).withFaceExpressions();
    const network = api.nets.faceExpressionNet;
    const expressions = face?.expressions ?? (await network.predictExpressions(image));
    image.dispose();
    return Object.entries(expressions);
  };
}

async function createHuman() {
  const { Human } = load("@vladmandic/human/dist/human.node-wasm.js");
  const off = { enabled: false };
  // Its build for Node reads models from a server only: this function reads them from the folder.
  const models = path.resolve(modules, "@vladmandic/human/models");
  globalThis.fetch = async (url) =>
    new Response(fs.readFileSync(path.join(models, path.basename(url))), {
      headers: { "Content-Type": url.endsWith(".json") ? "application/json" : "application/octet-stream" },
    });
  const human = new Human({
    backend: "wasm", wasmPath: wasmFolder, debug: false, cacheSensitivity: 0,
    modelBasePath: "http://models/",
    face: { enabled: true, emotion: { enabled: true }, iris: off },
    body: off, hand: off, object: off, gesture: off,
  });
  await human.load();
  return async (pixels, height, width) => {
    const image = human.tf.tensor(pixels, [1, height, width, 3], "float32");
    const { face } = await human.detect(image);
    image.dispose();
    return face.length ? face[0].emotion.map(({ emotion, score }) => [emotion, score]) : [];
  };
}

// Adds a black border of a quarter of the size: detectors may miss faces that fill the image.
function addBorder(pixels, height, width) {
  const [y, x] = [height >> 2, width >> 2];
  const padded = new Uint8Array((height + 2 * y) * (width + 2 * x) * 3);
  for (let row = 0; row < height; row++) {
    const values = pixels.subarray(row * width * 3, (row + 1) * width * 3);
    padded.set(values, ((row + y) * (width + 2 * x) + x) * 3);
  }
  return [padded, height + 2 * y, width + 2 * x];
}

async function main() {
  const predict = await (name === "human" ? createHuman() : createFaceApi());
  for (const file of fs.readFileSync(0, "utf8").trim().split("\n")) {
    const begin = process.cpuUsage();
    const { data, width, height } = jpeg.decode(fs.readFileSync(file), { formatAsRGBA: false });
    const image = [new Uint8Array(data), height, width];
    let scores = await predict(...image);
    if (!scores.length) scores = await predict(...addBorder(...image));
    const { user, system } = process.cpuUsage(begin);
    const best = scores.reduce((a, b) => (b[1] > a[1] ? b : a), ["", -1]);
    console.log(JSON.stringify({ predicted: best[0], ms: (user + system) / 1000 }));
  }
}

main();
