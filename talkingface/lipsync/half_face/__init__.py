"""What models share that redraw the lower half of a face to a sound: data, generation, pasting, previews, scores."""
