"""The best items for a query vector.

The path: `exact` defines what every index promises and scores all rows in blocks. `approximate` finds candidates by
`codes` (faiss) and scores them exactly; its file lies beside the model. `blocked_matmul` scores a small batch.
Does not know: users, states, lists.
"""
