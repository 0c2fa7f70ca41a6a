"""What maintains the repository: set-up, generated pages, the catalog."""
