"""A page on this machine that shows what a network says of one's own pictures and webcam."""
