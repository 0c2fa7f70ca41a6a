"""Where the tables of frameworks' keys come from: a module per framework, all of them in `registry.SOURCES`."""
