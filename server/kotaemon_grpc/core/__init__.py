"""The domain: what a question, an answer and a document are, free of gRPC and I/O."""
