"""What developers type in a checkout: `inv test`, and `inv dev.…`. The installed `ops` command offers none of it."""
