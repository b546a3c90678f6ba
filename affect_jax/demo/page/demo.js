// Shows the predictions of images and webcam frames; `predictImage` is in server.js or browser.js.
"use strict";

const MAX_BYTES = 12 * 2 ** 20;
const MIN_CERTAIN = 0.5; // as in affect_jax/core/labels.py

const byId = (id) => document.getElementById(id);
const copyTemplate = (id) => byId(id).content.cloneNode(true).firstElementChild;

function createResult(title) {
  const article = copyTemplate("result");
  article.querySelector("h2").textContent = title;
  byId("results").prepend(article);
  return article;
}

function createFace(face, index, outputs) {
  const section = copyTemplate("face");
  const rows = (head) => (outputs[head]?.names || []).map((name, i) => [name, face[head][i]]);
  const likely = rows("expression").reduce((a, b) => (b[1] > a[1] ? b : a), ["", 0]);
  const mark = likely[0] && likely[1] < MIN_CERTAIN ? " (uncertain)" : "";
  section.querySelector("h3").textContent = `${index + 1} ${likely[0]}${mark}`;
  section.querySelector(".axes").textContent = rows("valence_arousal")
    .map(([name, value]) => `${name} ${value.toFixed(2)}`).join(", ");
  for (const [name, value] of [...rows("expression"), ...rows("action_units")]) {
    const row = section.querySelector("table").insertRow();
    row.insertCell().textContent = name;
    const meter = document.createElement("meter");
    meter.value = value;
    row.insertCell().append(meter);
    row.insertCell().textContent = value.toFixed(2);
  }
  return section;
}

async function showPrediction(article, image) {
  if (image.size > MAX_BYTES) throw new Error("the file is larger than 12 MiB");
  const prediction = await predictImage(image, article);
  const { faces, size, outputs } = prediction;
  const picture = article.querySelector("img");
  URL.revokeObjectURL(picture.src);
  picture.src = URL.createObjectURL(image);
  const boxes = faces.map(({ box }, index) => {
    const frame = copyTemplate("box");
    frame.textContent = index + 1;
    ["left", "top", "width", "height"].forEach((name, i) => {
      frame.style[name] = `${100 * box[i] / size[i % 2]}%`;
    });
    return frame;
  });
  article.querySelector(".picture").replaceChildren(picture, ...boxes);
  const sections = faces.map((face, index) => createFace(face, index, outputs));
  article.querySelector(".faces").replaceChildren(...sections);
  article.querySelector(".note").textContent = prediction.reason;
}

async function predictFiles(files) {
  for (const file of [...files]) { // a copy: the list of a drop is emptied after its event
    const article = createResult(file.name);
    await showPrediction(article, file).catch((error) => {
      article.querySelector(".note").textContent = error.message;
    });
  }
}

let webcam = null; // the stream, while it is predicted

function setWebcam(stream) {
  if (webcam) webcam.getTracks().forEach((track) => track.stop());
  webcam = stream;
  byId("webcam").textContent = stream ? "Stop the webcam" : "Start the webcam";
  byId("webcam").setAttribute("aria-pressed", stream !== null);
}

async function predictWebcam() {
  const article = createResult("Webcam");
  try {
    setWebcam(await navigator.mediaDevices.getUserMedia({ video: { width: 640 } }));
    const video = document.createElement("video");
    video.srcObject = webcam;
    await video.play();
    const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
    while (webcam) {
      canvas.getContext("2d").drawImage(video, 0, 0);
      await showPrediction(article, await canvas.convertToBlob({ type: "image/jpeg" }));
    }
    article.remove();
  } catch (error) {
    article.querySelector(".note").textContent = error.message;
    setWebcam(null);
  }
}

byId("files").addEventListener("change", (event) => {
  predictFiles(event.target.files).finally(() => { event.target.value = ""; });
});
byId("webcam").addEventListener("click", () => (webcam ? setWebcam(null) : predictWebcam()));
for (const name of ["dragover", "dragleave", "drop"]) {
  byId("choose").addEventListener(name, (event) => {
    event.preventDefault();
    byId("choose").classList.toggle("over", name === "dragover");
    if (name === "drop") predictFiles(event.dataTransfer.files);
  });
}
