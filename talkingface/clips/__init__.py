"""Prepared clips: what is on disk, how it becomes training items, and where the videos of a data set lie.

`folder` is one prepared clip, `face_store` its packed crops, `dataset` draws items, `layouts` knows data sets on disk,
`source` is the face and the voice that a generation starts from.
"""
