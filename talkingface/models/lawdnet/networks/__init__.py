"""Networks of LawDNet: generator, cross attention, local affine warp."""
