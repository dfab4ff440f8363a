"""Measurements over several seeds: one module a claim or table, `python -m geolessons.studies.NAME`."""
