"""The published JSON Schemas, by form and version: of vramlint's own output, and of DeepSpeed's configuration."""
