"""Corpora that other trainers tokenized; a module each format (:mod:`tools.importing.formats`)."""
