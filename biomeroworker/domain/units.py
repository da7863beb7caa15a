"""Units of length: their names in OME-NGFF (UDUNITS-2) and their symbols in OME-XML.

Sources: OME-NGFF 0.4 § axes; OME schema 2016-06, UnitsLength. OMERO's names are the same in capitals.
"""

from __future__ import annotations

#: Name in OME-NGFF: symbol in OME-XML. `remote/convert.py` has a copy, because it imports nothing of this package.
LENGTHS = {
    "angstrom": "Å", "attometer": "am", "centimeter": "cm", "decimeter": "dm", "exameter": "Em", "femtometer": "fm",
    "foot": "ft", "gigameter": "Gm", "hectometer": "hm", "inch": "in", "kilometer": "km", "megameter": "Mm",
    "meter": "m", "micrometer": "µm", "mile": "mi", "millimeter": "mm", "nanometer": "nm", "parsec": "pc",
    "petameter": "Pm", "picometer": "pm", "terameter": "Tm", "yard": "yd", "yoctometer": "ym", "yottameter": "Ym",
    "zeptometer": "zm", "zettameter": "Zm",
}  # fmt: skip
