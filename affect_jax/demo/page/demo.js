// Sends pictures, or the webcam's frames, to this page's own server and draws its answers.
"use strict";

const MOST_FILES = 10;
const MOST_BYTES = 12 * 2 ** 20; // the server's own limits count; this one spares the sending
const ACTIVE = 0.5; // an action unit from which it is drawn as active
const COLOURS = ["#56b4e9", "#e69f00", "#35b58f", "#cc79a7", "#e8743b"];
const SVG = "http://www.w3.org/2000/svg";

const byId = (id) => document.getElementById(id);
const say = (text) => { byId("status").textContent = text; };
const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(2);

async function ask(image, kind) {
  if (image.size > MOST_BYTES) throw new Error("the file has more than 12 MiB");
  const answer = await fetch("predict", {
    method: "POST", headers: { "Content-Type": kind }, body: image,
  });
  const found = await answer.json().catch(() => ({ error: `the server said ${answer.status}` }));
  if (!answer.ok) throw new Error(found.error);
  return found;
}

function add(parent, name, attributes, space) {
  const made = space ? document.createElementNS(space, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  return parent.appendChild(made);
}

function drawBoxes(svg, found) {
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${found.width} ${found.height}`);
  svg.setAttribute("aria-label", `${found.faces.length} faces`);
  const size = Math.max(found.width, found.height) / 32;
  found.faces.forEach((face, place) => {
    const left = Math.max(0, face.box[0]), top = Math.max(0, face.box[1]);
    const frame = {
      x: left, y: top,
      width: Math.min(found.width, face.box[0] + face.box[2]) - left,
      height: Math.min(found.height, face.box[1] + face.box[3]) - top,
    };
    const colour = COLOURS[place % COLOURS.length];
    add(svg, "rect", { ...frame, class: "edge" }, SVG);
    add(svg, "rect", { ...frame, stroke: colour }, SVG);
    const middle = [left + size * 0.8, top + size * 0.8];
    add(svg, "circle", { cx: middle[0], cy: middle[1], r: size * 0.7, fill: colour }, SVG);
    const text = add(svg, "text", { x: middle[0], y: middle[1], "font-size": size }, SVG);
    text.textContent = place + 1;
  });
}

function drawBars(list, values, isLikely) {
  list.hidden = !values;
  for (const one of values || []) {
    const row = add(list, "div");
    if (isLikely(one)) row.className = "likely";
    add(row, "dt").textContent = one.name;
    const fill = add(add(row, "dd", { class: "track", "aria-hidden": "true" }), "span", { class: "fill" });
    fill.style.width = `${100 * one.value}%`;
    add(row, "dd").textContent = one.value.toFixed(2);
  }
}

function drawFace(face, place) {
  const card = byId("face").content.cloneNode(true).firstElementChild;
  const number = card.querySelector(".number");
  number.textContent = place + 1;
  number.style.background = COLOURS[place % COLOURS.length];
  const most = face.expression ? Math.max(...face.expression.map((one) => one.value)) : 0;
  const likely = (face.expression || []).find((one) => one.value === most);
  card.querySelector(".likely").textContent = likely ? likely.name : "";
  drawBars(card.querySelector(".expression"), face.expression, (one) => one === likely);
  drawBars(card.querySelector(".units"), face.action_units, (one) => one.value >= ACTIVE);
  const plane = card.querySelector(".plane");
  plane.hidden = face.valence === undefined;
  if (!plane.hidden) {
    const said = `valence ${signed(face.valence)}, arousal ${signed(face.arousal)}`;
    plane.querySelector("figcaption").textContent = said;
    plane.querySelector("svg").setAttribute("aria-label", said);
    const dot = plane.querySelector(".dot"), arm = plane.querySelector(".arm");
    dot.setAttribute("cx", face.valence); dot.setAttribute("cy", -face.arousal);
    arm.setAttribute("x2", face.valence); arm.setAttribute("y2", -face.arousal);
  }
  return card;
}

function drawAnswer(article, found) {
  drawBoxes(article.querySelector(".boxes"), found);
  article.querySelector(".faces").replaceChildren(...found.faces.map(drawFace));
  const note = found.left_out ? `${found.left_out} smaller faces were left out` : found.reason;
  article.querySelector(".note").textContent = note;
}

function newResult(title, medium) {
  const article = byId("result").content.cloneNode(true).firstElementChild;
  article.querySelector("h2").textContent = title;
  article.querySelector(".picture").prepend(medium);
  byId("results").prepend(article);
  return article;
}

async function showFiles(files) {
  if (files.length > MOST_FILES) say(`${MOST_FILES} pictures at a time; the first are taken`);
  for (const file of [...files].slice(0, MOST_FILES)) {
    const image = document.createElement("img");
    image.alt = file.name;
    const article = newResult(file.name, image);
    image.onload = () => URL.revokeObjectURL(image.src);
    article.querySelector(".note").textContent = "…";
    try {
      drawAnswer(article, await ask(file, file.type));
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
  const article = newResult("Webcam", video);
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
    const frame = await new Promise((give) => canvas.toBlob(give, "image/jpeg", 0.9));
    try {
      const found = await ask(frame, "image/jpeg");
      if (running) drawAnswer(article, found);
    } catch (error) {
      article.querySelector(".note").textContent = error.message;
      await new Promise((wait) => setTimeout(wait, 1000));
    }
  }
}

byId("files").addEventListener("change", (event) => {
  showFiles(event.target.files).finally(() => { event.target.value = ""; });
});
byId("webcam").addEventListener("click", () => {
  if (stopWebcam) stopWebcam();
  else startWebcam().catch(() => say("there is no webcam, or it may not be used"));
});
const choose = byId("choose");
for (const name of ["dragover", "dragleave", "drop"]) {
  choose.addEventListener(name, (event) => {
    event.preventDefault();
    choose.classList.toggle("over", name === "dragover");
  });
}
choose.addEventListener("drop", (event) => showFiles(event.dataTransfer.files));
