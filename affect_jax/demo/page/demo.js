// Sends images or webcam frames to the server of this page and draws the predictions.
"use strict";

const MAX_FILES = 10;
const MAX_BYTES = 12 * 2 ** 20; // the server enforces the same limit; this check avoids the upload
const ACTIVE_THRESHOLD = 0.5; // an action unit with this probability or more is highlighted
const COLOURS = ["#56b4e9", "#e69f00", "#35b58f", "#cc79a7", "#e8743b"];
const SVG = "http://www.w3.org/2000/svg";

const byId = (id) => document.getElementById(id);
const showStatus = (text) => { byId("status").textContent = text; };
const formatSigned = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(2);

async function requestPrediction(image, contentType) {
  if (image.size > MAX_BYTES) throw new Error("the file is larger than 12 MiB");
  const response = await fetch("predict", {
    method: "POST", headers: { "Content-Type": contentType }, body: image,
  });
  const prediction = await response.json().catch(
    () => ({ error: `the server returned status ${response.status}` }),
  );
  if (!response.ok) throw new Error(prediction.error);
  return prediction;
}

function addElement(parent, name, attributes, namespace) {
  const element = namespace
    ? document.createElementNS(namespace, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
  return parent.appendChild(element);
}

function drawBoxes(svg, prediction) {
  const { width, height, faces } = prediction;
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("aria-label", `${faces.length} faces`);
  const size = Math.max(width, height) / 32;
  faces.forEach((face, index) => {
    const left = Math.max(0, face.box[0]), top = Math.max(0, face.box[1]);
    const rectangle = {
      x: left, y: top,
      width: Math.min(width, face.box[0] + face.box[2]) - left,
      height: Math.min(height, face.box[1] + face.box[3]) - top,
    };
    const colour = COLOURS[index % COLOURS.length];
    addElement(svg, "rect", { ...rectangle, class: "edge" }, SVG);
    addElement(svg, "rect", { ...rectangle, stroke: colour }, SVG);
    const centre = [left + size * 0.8, top + size * 0.8];
    addElement(svg, "circle", { cx: centre[0], cy: centre[1], r: size * 0.7, fill: colour }, SVG);
    const text = addElement(svg, "text", { x: centre[0], y: centre[1], "font-size": size }, SVG);
    text.textContent = index + 1;
  });
}

function drawBars(list, outputs, isHighlighted) {
  list.hidden = !outputs;
  for (const output of outputs || []) {
    const row = addElement(list, "div");
    if (isHighlighted(output)) row.className = "likely";
    addElement(row, "dt").textContent = output.name;
    const track = addElement(row, "dd", { class: "track", "aria-hidden": "true" });
    addElement(track, "span", { class: "fill" }).style.width = `${100 * output.value}%`;
    addElement(row, "dd").textContent = output.value.toFixed(2);
  }
}

function drawFace(face, index) {
  const card = byId("face").content.cloneNode(true).firstElementChild;
  const number = card.querySelector(".number");
  number.textContent = index + 1;
  number.style.background = COLOURS[index % COLOURS.length];
  const classes = face.expression || [];
  const maximum = Math.max(0, ...classes.map((output) => output.value));
  const likely = classes.find((output) => output.value === maximum);
  card.querySelector(".likely").textContent = likely ? likely.name : "";
  drawBars(card.querySelector(".expression"), face.expression, (output) => output === likely);
  drawBars(
    card.querySelector(".units"), face.action_units, (unit) => unit.value >= ACTIVE_THRESHOLD,
  );
  const plane = card.querySelector(".plane");
  plane.hidden = face.valence === undefined;
  if (!plane.hidden) {
    const caption = `valence ${formatSigned(face.valence)}, arousal ${formatSigned(face.arousal)}`;
    plane.querySelector("figcaption").textContent = caption;
    plane.querySelector("svg").setAttribute("aria-label", caption);
    const dot = plane.querySelector(".dot"), arm = plane.querySelector(".arm");
    dot.setAttribute("cx", face.valence); dot.setAttribute("cy", -face.arousal);
    arm.setAttribute("x2", face.valence); arm.setAttribute("y2", -face.arousal);
  }
  return card;
}

function showPrediction(article, prediction) {
  drawBoxes(article.querySelector(".boxes"), prediction);
  article.querySelector(".faces").replaceChildren(...prediction.faces.map(drawFace));
  const note = prediction.left_out
    ? `${prediction.left_out} smaller faces are not shown` : prediction.reason;
  article.querySelector(".note").textContent = note;
}

function addResult(title, media) {
  const article = byId("result").content.cloneNode(true).firstElementChild;
  article.querySelector("h2").textContent = title;
  article.querySelector(".picture").prepend(media);
  byId("results").prepend(article);
  return article;
}

async function predictFiles(files) {
  if (files.length > MAX_FILES) showStatus(`only the first ${MAX_FILES} images are used`);
  for (const file of [...files].slice(0, MAX_FILES)) {
    const image = document.createElement("img");
    image.alt = file.name;
    const article = addResult(file.name, image);
    image.onload = () => URL.revokeObjectURL(image.src);
    article.querySelector(".note").textContent = "…";
    try {
      showPrediction(article, await requestPrediction(file, file.type));
      image.src = URL.createObjectURL(file);
    } catch (error) {
      article.querySelector(".columns").hidden = true;
      article.querySelector(".note").textContent = error.message;
    }
  }
}

let stopWebcam = null;

async function startWebcam() {
  const stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640 } });
  const video = document.createElement("video");
  video.muted = true; video.playsInline = true; video.srcObject = stream;
  const article = addResult("Webcam", video);
  let running = true;
  stopWebcam = () => {
    running = false;
    stopWebcam = null;
    stream.getTracks().forEach((track) => track.stop());
    article.remove();
    byId("webcam").textContent = "Start the webcam";
    byId("webcam").setAttribute("aria-pressed", "false");
  };
  byId("webcam").textContent = "Stop the webcam";
  byId("webcam").setAttribute("aria-pressed", "true");
  await video.play();
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth; canvas.height = video.videoHeight;
  while (running) {
    canvas.getContext("2d").drawImage(video, 0, 0);
    const frame = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.9));
    try {
      const prediction = await requestPrediction(frame, "image/jpeg");
      if (running) showPrediction(article, prediction);
    } catch (error) {
      article.querySelector(".note").textContent = error.message;
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  }
}

byId("files").addEventListener("change", (event) => {
  predictFiles(event.target.files).finally(() => { event.target.value = ""; });
});
byId("webcam").addEventListener("click", () => {
  if (stopWebcam) stopWebcam();
  else startWebcam().catch(() => showStatus("no webcam available, or permission was denied"));
});
const dropArea = byId("choose");
for (const name of ["dragover", "dragleave", "drop"]) {
  dropArea.addEventListener(name, (event) => {
    event.preventDefault();
    dropArea.classList.toggle("over", name === "dragover");
  });
}
dropArea.addEventListener("drop", (event) => predictFiles(event.dataTransfer.files));
