"""The published JSON Schemas of vramlint's own output, by form and version."""
