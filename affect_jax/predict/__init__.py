"""Prediction on images, folders, videos and webcams: detection, the network, rows and pictures."""
