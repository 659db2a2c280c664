"""Answering over the network: the Open Inference Protocol v2 over REST, models in worker processes, metrics.

The process that listens (`server`, `app`) routes, counts and limits; it opens no bundle and parses no request body.
Bodies go as they are to a worker process (`pool`), where `model` decodes them (`protocol`), predicts and encodes the
answer. What a hostile request or a hostile model can break is one worker, and a worker is replaced.

Nothing is imported here, so that workers do not load the HTTP server: start with `hauberk.serve.server.serve`.
"""
