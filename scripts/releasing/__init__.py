"""The parts of a release, one noun a module; `scripts/release` puts them together."""
