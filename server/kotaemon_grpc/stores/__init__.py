"""Where documents and conversations are kept, behind `core.ports`."""
