"""Cartoon puppets: a drawing, its landmarks and a mesh, made to speak by triangles alone."""
