"""A production server distribution that puts RAG agents on gRPC."""
