"""The board: ``leaderboard.json`` and its schema, its entries, their order and the differences between them."""
