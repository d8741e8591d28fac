"""The bundled five services: something real to keep alive on a machine that has nothing else yet.

Knows: a mock payment gateway, a mock bank, a reconciler, an overview and a dashboard, over HTTP.
Must not know: the toolkit that keeps them running. Only the standard library is imported here.

Run one with `python -m ops.sample NAME --port N`.
"""
