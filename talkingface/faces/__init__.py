"""Where a face is: detectors, the landmark track of a clip, the crop and the way back into the frame."""
