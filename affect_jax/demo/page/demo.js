// Sends images or webcam frames to the server of this page and shows the predictions.
"use strict";

const MAX_BYTES = 12 * 2 ** 20; // the server enforces the same limit; this check avoids the upload

const byId = (id) => document.getElementById(id);
const copyTemplate = (id) => byId(id).content.cloneNode(true).firstElementChild;

async function requestPrediction(image) {
  if (image.size > MAX_BYTES) throw new Error("the file is larger than 12 MiB");
  const response = await fetch("predict", {
    method: "POST", headers: { "Content-Type": image.type }, body: image,
  });
  const prediction = await response.json().catch(
    () => ({ error: `the server returned status ${response.status}` }),
  );
  if (!response.ok) throw new Error(prediction.error);
  return prediction;
}

function createResult(title) {
  const article = copyTemplate("result");
  article.querySelector("h2").textContent = title;
  byId("results").prepend(article);
  return article;
}

function createFace(face, index) {
  const section = copyTemplate("face");
  const expression = face.expression || [];
  const likely = expression.reduce((a, b) => (b.value > a.value ? b : a), { name: "", value: 0 });
  section.querySelector("h3").textContent = `${index + 1} ${likely.name}`;
  if (face.valence !== undefined) {
    section.querySelector(".axes").textContent =
      `valence ${face.valence.toFixed(2)}, arousal ${face.arousal.toFixed(2)}`;
  }
  for (const { name, value } of [...expression, ...(face.action_units || [])]) {
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
  const prediction = await requestPrediction(image);
  article.querySelector("img").src = prediction.image;
  article.querySelector(".faces").replaceChildren(...prediction.faces.map(createFace));
  article.querySelector(".note").textContent = prediction.left_out
    ? `${prediction.left_out} smaller faces are not shown` : prediction.reason;
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

async function predictWebcam() {
  const button = byId("webcam");
  const article = createResult("Webcam");
  try {
    webcam = await navigator.mediaDevices.getUserMedia({ video: { width: 640 } });
    button.textContent = "Stop the webcam";
    button.setAttribute("aria-pressed", "true");
    const video = document.createElement("video");
    video.srcObject = webcam;
    await video.play();
    const canvas = document.createElement("canvas");
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    while (webcam) {
      canvas.getContext("2d").drawImage(video, 0, 0);
      const frame = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.9));
      await showPrediction(article, frame);
    }
    article.remove();
  } catch (error) {
    article.querySelector(".note").textContent = error.message;
    stopWebcam();
  }
  button.textContent = "Start the webcam";
  button.setAttribute("aria-pressed", "false");
}

function stopWebcam() {
  if (webcam) webcam.getTracks().forEach((track) => track.stop());
  webcam = null;
}

byId("files").addEventListener("change", (event) => {
  predictFiles(event.target.files).finally(() => { event.target.value = ""; });
});
byId("webcam").addEventListener("click", () => (webcam ? stopWebcam() : predictWebcam()));
for (const name of ["dragover", "dragleave", "drop"]) {
  byId("choose").addEventListener(name, (event) => {
    event.preventDefault();
    byId("choose").classList.toggle("over", name === "dragover");
    if (name === "drop") predictFiles(event.dataTransfer.files);
  });
}
