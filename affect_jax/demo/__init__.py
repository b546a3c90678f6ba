"""Demo: a local web page that predicts the faces in uploaded images and in the webcam's video."""
