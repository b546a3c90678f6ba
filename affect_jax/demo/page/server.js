// Predicts an image on the server of this page.
"use strict";

async function predictImage(image) {
  const response = await fetch("predict", {
    method: "POST", headers: { "Content-Type": image.type }, body: image,
  });
  const prediction = await response.json().catch(
    () => ({ error: `the server returned status ${response.status}` }),
  );
  if (!response.ok) throw new Error(prediction.error);
  return prediction;
}
