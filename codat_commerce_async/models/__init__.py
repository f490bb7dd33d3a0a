"""Values that Codat sends and accepts, one module per topic.

Import a model from the module of its topic, such as `from codat_commerce_async.models.sync import SyncStatus`. The
names that most programs need are also in `codat_commerce_async` itself.
"""
