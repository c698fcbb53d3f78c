"""From videos to prepared clips: steps that each make one artefact, in a pool that survives its workers."""
