"""The wire of sumgrad: protocol buffers and the Python generated from them."""
